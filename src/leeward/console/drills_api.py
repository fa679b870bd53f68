"""The HTTP API of drills. It only translates."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from leeward.console.access import operator, viewer
from leeward.console.service import Service
from leeward.console.views import DrillRequest, DrillView
from leeward.state.database import acting


def add_drills_api(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/drills", dependencies=viewer)
    def drills() -> list[DrillView]:
        return service.drills.all()

    @app.put("/api/v1/vms/{vm}/drill", dependencies=operator)
    def schedule_drill(vm: str, request: DrillRequest) -> DrillView:
        return service.drills.put(service.vm_id(vm), request, acting.get())

    @app.delete("/api/v1/vms/{vm}/drill", dependencies=operator)
    def unschedule_drill(vm: str) -> dict[str, Any]:
        vm_id, name = service.known(vm)
        service.drills.remove(vm_id, name, acting.get())
        return {"vm": name, "drill": None}

    @app.put("/api/v1/plans/{plan}/drill", dependencies=operator)
    def schedule_plan_drill(plan: str, request: DrillRequest) -> DrillView:
        return service.drills.put_plan(plan, request, acting.get())

    @app.delete("/api/v1/plans/{plan}/drill", dependencies=operator)
    def unschedule_plan_drill(plan: str) -> dict[str, Any]:
        service.drills.remove_plan(plan, acting.get())
        return {"plan": plan, "drill": None}
