"""What a run will compute, known from its prompts alone: no weights are read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.engine.limits import PlanLimits
from harness.engine.memory import TokenCost, batch_tokens, parameters
from harness.engine.plan import PlanItem, make_plan
from harness.engine.tokens import Encoded
from harness.errors import one_line
from harness.model import Forecast
from harness.stopwatch import peak_memory
from harness.words import phrase

if TYPE_CHECKING:
    from harness.engine.stand_in import Original

# Of what a large product of matrices reaches, a model reaches about this much.
_EFFICIENCY = 0.5


def forecast(
    encoded: Encoded,
    requests: int,
    config: Any,
    device: str,
    dtype: Any,
    copies: int = 1,
    limits: PlanLimits | None = None,
) -> Forecast:
    """Plan the scoring and the generation of a run. copies: how many devices have the model and work at a time."""
    from harness.engine.plain import BatchLimits, lengths_alone, padded_batches
    from harness.engine.rate import matrix_rate

    scored = list(dict.fromkeys((s.inputs, s.start) for s in encoded.scores))
    prompts = list(dict.fromkeys(s.tokens for s in encoded.generations))
    plans = (
        make_plan([PlanItem(tokens, start - 1) for tokens, start in scored], limits),
        make_plan([PlanItem(tokens, len(tokens) - 1) for tokens in prompts], limits),
    )
    new_tokens = sum(sequence.max_new_tokens for sequence in encoded.generations)
    planned = sum(plan.planned_tokens for plan in plans)
    unshared = unshared_reason(config)
    if unshared is not None:
        room = batch_tokens(device, TokenCost.of(config, dtype.itemsize), keeps_cache=False)
        lengths = lengths_alone(encoded.scores, bool(config.is_encoder_decoder))
        lengths += [len(sequence.tokens) for sequence in encoded.generations]
        planned = sum(padded_batches(lengths, BatchLimits(None, room)))
    return Forecast(
        requests=requests,
        tokens=sum(len(s.tokens) - 1 for s in encoded.scores) + sum(len(s.tokens) for s in encoded.generations),
        unique_tokens=sum(plan.unique_tokens for plan in plans),
        planned_tokens=planned,
        new_tokens=new_tokens,
        seconds=2 * parameters(config) * (planned + new_tokens) / (_EFFICIENCY * matrix_rate(device, dtype) * copies),
        unshared=unshared or "",
    )


def probed(outlook: Forecast, encoded: Encoded, original: Original) -> Forecast:
    """The forecast with times that a stand-in of the same shape took on the processor, where one can be made."""
    from harness.engine.probe import probe

    quantised = getattr(original.config, "quantization_config", None) is not None
    if quantised or not (encoded.scores or encoded.generations):
        return outlook
    try:
        found = probe(encoded, original)
    except Exception as error:  # an architecture with code of its own may need anything: then the rate has to do
        return replace(
            outlook,
            known_by=phrase("{how} (no stand-in could be timed: {why})", how=outlook.known_by, why=one_line(error)),
        )
    return replace(
        outlook,
        seconds=found.seconds.clock,
        processor=found.seconds.processor,
        known_by=found.text,
        opening=found.opening,
        peak_memory=peak_memory() + found.unmade,
    )


def unshared_reason(config: Any) -> str | None:
    """Why a run will not share prefixes, as far as the configuration tells; None where it will."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    from harness.engine.execute import why_not_shared

    known = config.is_encoder_decoder or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    # Of an architecture that brings its own code, only loading it would tell.
    if not known:
        return None
    return why_not_shared(None if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config)
