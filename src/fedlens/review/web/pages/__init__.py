"""The pages for people; :data:`routers` are those of the console besides signing in."""

from fastapi import APIRouter

from fedlens.review.web.pages import case, insight, model, people, pictures, queue, stopping, trail

routers: tuple[APIRouter, ...] = (
    queue.router,
    case.router,
    pictures.router,
    stopping.router,
    trail.router,
    insight.router,
    model.router,
    people.router,
)
