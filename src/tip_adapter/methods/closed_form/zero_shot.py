"""Zero-shot classification by the class texts; the shots only name the classes."""

from __future__ import annotations

from typing import Any

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.support_set import SupportSet


class ZeroShot(FewShotMethod):
    """CLIP's zero-shot classifier, ``s·f·Wᵀ``.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Class text features. Without them every class is equally likely.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import ZeroShot
    >>> eye = np.eye(2, dtype=np.float32)
    >>> ZeroShot(eye, class_names=["hat", "cap"]).fit(eye, ["cap", "hat"]).predict(eye).tolist()
    ['hat', 'cap']
    """

    def _fit_head(self, support: SupportSet) -> LinearHead:
        return LinearHead(support.n_classes, support.zero_shot_weights, support.logit_scale)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Without texts it knows nothing, and the estimator checks give it none.
        tags.classifier_tags.poor_score = True
        return tags
