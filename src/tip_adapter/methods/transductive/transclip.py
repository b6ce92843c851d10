"""TransCLIP: one Gaussian mixture of the shots and all test photos, regularised towards the texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import softmax, zero_shot_logits
from tip_adapter.methods.heads.base import row_chunks, unit
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import Float32Array, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ITERATIONS, ROUNDS = 10, 5
"""How often the mixture is fitted, and how often within each the photos' classes are."""

NEIGHBOURS = 3

LIKELIHOOD_SHARE = 1 / 50
"""What a log-likelihood counts, in the official code: D dimensions are not D independent observations."""

CONFIDENT = 8
"""Photos asked about that a class without shots begins with: those that its text is surest of."""


class TransCLIP(FewShotMethod):
    """TransCLIP, ``z_i ∝ ŷ_i^λ · exp(log p_i / 50 + Σ_j w_ij z_j)``: answers to many photos, found together.

    ``ŷ`` are the zero-shot probabilities; ``p`` the likelihoods under Gaussians with one diagonal covariance, fitted to
    the shots and to the photos asked about, each in the classes that ``z`` says; ``w`` the cosines with the three
    nearest photos. All three are found in turn.

    Transductive: an answer depends on the other photos of the same call, so this belongs in no table with methods that
    answer each photo for itself, and in no classifier that is asked one by one.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text. Required.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    text_power : float, default=0.5
        λ, what the texts count; .5 is the paper's with shots.
    gamma : float or "auto", default="auto"
        γ, what the shots count together: 50γ beside 1 for the photos asked about. "auto" lets each shot count as much
        as each photo asked about; the official code chooses .002, .01, .02 or .2 on a validation set.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Notes
    -----
    Here every shot speaks for its own nearest photos. The official code, in which photos and shots are numbered in two
    orders, gives them classes of others, and leaves out the nearest photo of each.

    References
    ----------
    Zanella et al., "Boosting Vision-Language Models with Transduction", NeurIPS 2024, equations 2 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.transductive.transclip import TransCLIP
    >>> texts = np.eye(2, dtype=np.float32)
    >>> method = TransCLIP(texts, class_names=["hat", "cap"]).fit(texts, ["hat", "cap"])
    >>> method.predict([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0]]).tolist()
    ['hat', 'cap', 'hat']
    """

    needs_text = True
    transductive = True

    text_power: float = 0.5
    gamma: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> _MixtureHead:
        power, gamma = given_or_auto("text_power", self.text_power), given_or_auto("gamma", self.gamma)
        if power is None:
            raise InputError("Expected text_power as a number that is at least 0, got 'auto'")
        return _MixtureHead(support, power, None if gamma is None else gamma / LIKELIHOOD_SHARE)


@dataclass(frozen=True)
class _MixtureHead:
    """Answers to photos, found together.

    Attributes
    ----------
    support : SupportSet
    text_power : float
    shots_count : float, optional
        What the shots count together, beside 1 for the photos asked about; by default each as much as each of these.
    """

    support: SupportSet
    text_power: float
    shots_count: float | None

    def logits(self, features: Float32Array) -> Float32Array:
        """Log-probabilities up to a constant, (B, C), of unit features (B, D) seen together."""
        support = self.support
        text = zero_shot_logits(features, support.zero_shot_weights, support.logit_scale, support.n_classes)
        text = text.astype(np.float64)
        shares = softmax(text)
        affinity = nearest_affinities(features, np.concatenate([features, support.features]))
        count = len(support.labels) / len(features) if self.shots_count is None else self.shots_count
        means, variances = self._first_means(features, shares), np.full(features.shape[1], 1 / features.shape[1])
        logits = text
        for iteration in range(ITERATIONS + 1):
            fixed = self.text_power * text + LIKELIHOOD_SHARE * _log_likelihoods(features, means, variances)
            for _ in range(ROUNDS):
                logits = fixed + _spoken_for(affinity, shares, support)
                shares = softmax(logits)
            if iteration < ITERATIONS:
                means = self._means(features, shares, count)
                variances = self._variances(features, shares, means, count)
        return logits.astype(np.float32)

    def _first_means(self, features: Float32Array, shares: FloatArray) -> FloatArray:
        """Means of the shots, or of the photos that the text of a class without shots is surest of."""
        sums = self._sums_of_shots()
        for column in np.flatnonzero(self.support.counts == 0):
            surest = np.argsort(-shares[:, column], kind="stable")[:CONFIDENT]
            sums[column] = shares[surest, column] @ features[surest]
        return unit(sums)

    def _sums_of_shots(self) -> FloatArray:
        sums = np.zeros((self.support.n_classes, self.support.features.shape[1]))
        np.add.at(sums, self.support.labels, self.support.features)
        return sums

    def _means(self, features: Float32Array, shares: FloatArray, count: float) -> FloatArray:
        sums = shares.T @ features / len(features)
        return unit(sums + count * self._sums_of_shots() / len(self.support.labels))

    def _variances(self, features: Float32Array, shares: FloatArray, means: FloatArray, count: float) -> FloatArray:
        """Mean square distance from the means along every dimension, (D,)."""
        squares = np.square(features, dtype=np.float64).sum(axis=0)
        spread = squares - 2 * np.einsum("cd,cd->d", shares.T @ features, means) + shares.sum(axis=0) @ means**2
        apart = np.square(self.support.features - means[self.support.labels]).mean(axis=0)
        found = (spread / len(features) + count * apart) / (1 + count)
        return np.asarray(np.maximum(found, 1e-12))


def nearest_affinities(queries: Float32Array, keys: Float32Array) -> csr_array:
    """Cosines of every key with the `NEIGHBOURS` queries nearest to it, itself left out; 0 elsewhere.

    Shapes: `queries` (B, D), `keys` (N, D), the queries themselves first → (N, B).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.transductive.transclip import nearest_affinities
    >>> rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    >>> nearest_affinities(rows, rows).toarray().round(1)
    array([[0. , 0.6],
           [0.6, 0. ]], dtype=float32)
    """
    from scipy.sparse import csr_array

    n_queries, n_keys = len(queries), len(keys)
    count = min(NEIGHBOURS, n_queries - 1)
    nearest = np.empty((n_keys, count), dtype=np.intp)
    values = np.empty((n_keys, count), dtype=np.float32)
    for rows in row_chunks(n_keys if count else 0, n_queries):
        cosines = keys[rows] @ queries.T
        own = np.arange(rows.start, min(rows.stop, n_queries))
        cosines[own - rows.start, own] = -np.inf
        nearest[rows] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        values[rows] = np.take_along_axis(cosines, nearest[rows], axis=1)
    places = np.repeat(np.arange(n_keys), count), nearest.ravel()
    return csr_array((values.ravel(), places), shape=(n_keys, n_queries))


def _spoken_for(affinity: csr_array, shares: FloatArray, support: SupportSet) -> FloatArray:
    """What neighbours say of every photo's class, (B, C): those near it, and those it is near to."""
    own: IntArray = support.labels
    of_shots = np.zeros((len(own), support.n_classes))
    of_shots[np.arange(len(own)), own] = 1.0
    said: FloatArray = affinity.T @ np.concatenate([shares, of_shots]) + affinity[: len(shares)] @ shares
    return said / (2 * NEIGHBOURS)


def _log_likelihoods(features: Float32Array, means: FloatArray, variances: FloatArray) -> FloatArray:
    """Gaussian log-likelihoods (B, C), up to a constant for each image."""
    scaled = means / variances
    found: FloatArray = features @ scaled.T - 0.5 * np.einsum("cd,cd->c", scaled, means)
    return found
