"""Pose estimates as visualization_msgs markers: the mesh itself, coloured, at its pose."""

from __future__ import annotations

import numpy as np
import open3d as o3d
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from flowpose_ros.nodes.messages.poses import pose_message
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import PoseEstimate
from flowpose_ros.rendering.shading import surface_at

MARKER_FACES = 1500
"""A marker's mesh is decimated to so many faces: enough to see the pose, cheap to send."""


class MarkerMaker:
    """Makes the markers of a frame, and the deletion of those that are gone."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._shapes: dict[str, tuple[list[Point], list[ColorRGBA]]] = {}
        self._shown: set[tuple[str, int]] = set()
        self._header = Header()

    def deletions(self) -> MarkerArray:
        """The deletion of all that was shown, under the last header; nothing is shown then."""
        return self.markers(self._header, ())

    def markers(self, header: Header, estimates: tuple[PoseEstimate, ...]) -> MarkerArray:
        """One TRIANGLE_LIST per estimate under the image's header; stale ones are deleted."""
        current = {(estimate.label, estimate.instance) for estimate in estimates}
        gone = [Marker(header=header, ns=label, id=instance, action=Marker.DELETE)
                for label, instance in sorted(self._shown - current)]
        self._shown, self._header = current, header
        return MarkerArray(markers=gone + [self._marker(header, estimate) for estimate in estimates])

    def _marker(self, header: Header, estimate: PoseEstimate) -> Marker:
        marker = Marker(header=header, ns=estimate.label, id=estimate.instance,
                        type=Marker.TRIANGLE_LIST, action=Marker.ADD, pose=pose_message(estimate.T_cam_obj))
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        marker.color.r = marker.color.g = marker.color.b = marker.color.a = 1.0
        if estimate.label not in self._shapes:
            self._shapes[estimate.label] = triangles(self._catalogue[estimate.label].mesh)
        marker.points, marker.colors = self._shapes[estimate.label]
        return marker


def triangles(mesh: Mesh, faces: int = MARKER_FACES) -> tuple[list[Point], list[ColorRGBA]]:
    """Corner points and colours of the mesh decimated to at most so many faces, metres."""
    vertices, corners, source = _decimated(mesh, faces)
    points = vertices[corners].reshape(-1, 3)
    third = np.full((len(source), 3), 1 / 3, np.float32)
    albedo = np.repeat(surface_at(mesh, source, third).albedo, 3, axis=0).clip(0, 1)
    return ([Point(x=x, y=y, z=z) for x, y, z in points.astype(float).tolist()],
            [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in albedo.astype(float).tolist()])


def _decimated(mesh: Mesh, faces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [v,3], faces [f,3], and for each the mesh's own face nearest to its middle [f]."""
    if len(mesh.faces) <= faces:
        return mesh.vertices, mesh.faces, np.arange(len(mesh.faces))
    full = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)),
                                     o3d.utility.Vector3iVector(mesh.faces))
    small = full.merge_close_vertices(1e-6 * mesh.diameter).simplify_quadric_decimation(faces)
    vertices, corners = np.asarray(small.vertices), np.asarray(small.triangles)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(mesh.vertices.astype(np.float32)),
                        o3d.core.Tensor(mesh.faces.astype(np.uint32)))
    middles = vertices[corners].mean(1).astype(np.float32)
    nearest = scene.compute_closest_points(o3d.core.Tensor(middles))["primitive_ids"].numpy()
    return vertices, corners, nearest.astype(np.int64)
