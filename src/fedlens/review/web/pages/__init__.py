"""The pages for people; :data:`routers` are those of the console besides signing in."""

from fastapi import APIRouter

routers: tuple[APIRouter, ...] = ()
