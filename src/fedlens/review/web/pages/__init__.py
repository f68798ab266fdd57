"""The pages for people; :data:`routers` are those of the console besides signing in."""

from fastapi import APIRouter

from fedlens.review.web.pages import case, people, pictures, queue, stopping

routers: tuple[APIRouter, ...] = (
    queue.router,
    case.router,
    pictures.router,
    stopping.router,
    people.router,
)
