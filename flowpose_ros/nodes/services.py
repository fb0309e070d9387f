"""The services of the estimator node."""

from __future__ import annotations

from std_srvs.srv import SetBool, Trigger

from flowpose_ros.errors import FlowposeError


class Services:
    """`~/enable` switches estimation on and off, `~/estimate` asks for one frame while it is off,
    `~/reset_tracks` numbers instances anew, `~/reload_objects` reads the folder of objects again."""

    def __init__(self, node) -> None:
        self.enabled = True
        self._once = False
        self._node = node
        node.create_service(SetBool, "~/enable", self._enable)
        node.create_service(Trigger, "~/estimate", self._estimate)
        node.create_service(Trigger, "~/reset_tracks", self._reset_tracks)
        node.create_service(Trigger, "~/reload_objects", self._reload_objects)

    def wants_frame(self) -> bool:
        """Whether the frame at hand is to be worked on."""
        once, self._once = self._once, False
        return self.enabled or once

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = request.data
        response.success, response.message = True, "on" if request.data else "off"
        return response

    def _estimate(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._node.options.mode == "track":
            response.success, response.message = False, "mode: expected detect, got track, which follows every frame"
            return response
        if not self._node.active:
            response.success, response.message = False, "expected an active node; activate it first"
            return response
        self._once = True
        response.success, response.message = True, "the next complete frame will be estimated"
        return response

    def _reset_tracks(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._node.forget_instances()
        response.success, response.message = True, "instances are numbered anew"
        return response

    def _reload_objects(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._node.reload()
            response.success, response.message = True, "objects were read again"
        except Exception as error:  # whatever it was, the caller gets an answer and the node goes on
            known = isinstance(error, FlowposeError)
            response.success, response.message = False, str(error) if known else f"{type(error).__name__}: {error}"
        return response
