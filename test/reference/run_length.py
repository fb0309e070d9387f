"""COCO run lengths written from their description, the slow way round: mask to runs to text."""


def run_lengths(mask):
    """Count runs pixel by pixel, column by column, the first run being of zeros."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def text_of(runs):
    """COCO's text form, written from its description: difference to two before, five bits a character."""
    text = ""
    for i, run in enumerate(runs):
        value, more = run - (runs[i - 2] if i > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 * more))
    return text
