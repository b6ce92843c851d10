"""α and β of a classifier: how they do on left-out shots, held at what somebody wants, or chosen by the shots."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from tip_adapter.serve.problems import RESPONSES
from tip_adapter.serve.routes.editing import edit
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.serve.weights import chosen, held, weights_of

router = APIRouter(prefix="/v1/model/weights", tags=["weights"], responses=RESPONSES)
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, strict=True)]


class Weights(BaseModel):
    """α, the weight of the photos beside the texts, and β, how near a photo has to be to count."""

    model_config = ConfigDict(extra="forbid")
    alpha: Weight
    beta: Weight


@router.get("")
async def weights(request: Request, served: Served) -> dict[str, Any]:
    """Tell α and β, those that the shots choose, and of a grid of others the accuracy and log loss of left-out shots.

    Measured once for every state; whole groups are left out.
    """
    store = request.app.state.settings.store
    return await served.measured("weights", lambda classifier: weights_of(classifier, store))


@router.put("")
async def hold(served: Served, wanted: Weights) -> dict[str, Any]:
    """Hold α and β from now on, through later edits too; one edit, which undo takes back."""
    _, state = await edit(served, lambda classifier: held(classifier, wanted.alpha, wanted.beta))
    return state


@router.delete("")
async def choose(served: Served) -> dict[str, Any]:
    """Let the shots choose α and β again; one edit, which undo takes back."""
    _, state = await edit(served, chosen)
    return state
