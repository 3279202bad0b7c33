"""A decision and its yardstick as `report.json` states them; not-a-number where something is not known."""

import math
from typing import Any

import numpy as np

from memjax.audit.findings import Decision, Interval, NullSummary

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def counts(decision: Decision) -> dict[str, Any]:
    """Return a decision's numbers, its rule, and what they are measured against."""
    return {
        "n_copies": round(decision.n_copies.value),
        "n_mem": round(decision.n_mem.value),
        "patients_memorized": round(decision.n_patients_memorized.value),
        "patients_memorized_ids": list(decision.patients_memorized),
        "rule": decision.rule,
        "rate": decision.rate,
        "threshold": decision.threshold,
        "intervals": {
            "n_copies": interval(decision.n_copies),
            "n_mem": interval(decision.n_mem),
            "patients_memorized": interval(decision.n_patients_memorized),
        },
        "expected_by_chance": {
            "n_copies": decision.n_copies_by_chance,
            "n_mem_heldout": decision.n_mem_heldout,
        },
        "beyond": {"n": decision.n_beyond, "p_value": decision.p_beyond},
        "n_mem_size_matched": decision.n_mem_size_matched,
        "n_matched": decision.n_matched,
    }


def interval(estimate: Interval) -> dict[str, float]:
    """Return an estimate and its 95 % interval."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def yardstick(null: NullSummary | None) -> dict[str, Any] | None:
    """Return the held-out images' scores in a few numbers; None without any."""
    if null is None:
        return None
    return {
        "n": len(null.score),
        "n_patients": null.n_patients,
        "by_patient": null.by_patient,
        "left_out": dict(null.left_out),
        "p95": null.p95,
        "p99": null.p99,
        "quantiles": {str(q): np.quantile(null.score, q) if len(null.score) else None for q in _QUANTILES},
        "tail": {"start": null.tail_start, "n_patients": null.tail_patients, "dimension": null.tail_dimension},
    }


def digits(value: float) -> str:
    """Print nine digits, enough to tell any two float32 apart; nothing for what is not a number."""
    return f"{value:.9g}" if math.isfinite(value) else ""
