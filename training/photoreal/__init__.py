"""Photoreal scenes with ground truth: things fall on a table or into a bin and Cycles renders them.

things -> compose (what falls where, lamps) -> settle (Blender's physics) -> camera -> render (Cycles) -> write (BOP).
Blender is imported by `settle` and `render` alone.
"""
