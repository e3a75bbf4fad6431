"""Information planes: five activation functions, with and without L2, by adaptive and by fixed estimators.

One run takes half an hour of one core, three quarters with ten seeds: 4000 epochs of ten kinds of networks,
``--rounds`` seeds each (5); ``--threads`` processes share the kinds.
``--json`` keeps the curves, which ``python -m bench.information_figures`` draws.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray

from bench.information_nets import NETWORKS, Ensemble, Network, epochs_to_record
from bench.suite import Options, Row
from nncodec.information import EBAB, AdaptiveKDE, Binning, Estimator, FixedKDE

EPOCHS = 4000
HIDDEN = 5


def estimators(network: Network) -> dict[str, Estimator]:
    """The adaptive ones of the paper, and those they improve on."""
    return {
        "EBAB": EBAB(low=network.low),
        "aKDE": AdaptiveKDE(1e-3),
        "fixed bins": Binning(width=0.07),
        "fixed KDE": FixedKDE(1e-3),
    }


def run(options: Options) -> Iterator[Row]:
    kinds = [
        (name, l2)
        for name in NETWORKS
        for l2 in (False, True)
        if options.wants(name + (" + L2" if l2 else ""))
    ]
    if options.threads == 1:
        torch.set_num_threads(1)
        for name, l2 in kinds:
            yield from kind(name, l2, options.rounds, EPOCHS)
        return
    with ProcessPoolExecutor(
        options.threads, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        names, penalties = [name for name, _ in kinds], [l2 for _, l2 in kinds]
        for found in pool.map(kind, names, penalties, repeat(options.rounds), repeat(EPOCHS)):
            yield from found


def kind(name: str, l2: bool, seeds: int, epochs: int) -> list[Row]:
    """One kind of network."""
    return list(rows(name + (" + L2" if l2 else ""), NETWORKS[name], seeds, l2, epochs))


def rows(title: str, network: Network, seeds: int, l2: bool, epochs: int = EPOCHS) -> Iterator[Row]:
    """Train one kind of network; a row per estimator, mean and deviation over the seeds."""
    ensemble = Ensemble(network, seeds, l2)
    measures = estimators(network)
    planes: dict[str, list[NDArray[np.float64]]] = {name: [] for name in measures}
    recorded = epochs_to_record(epochs)
    activations = ensemble.activations()
    for epoch in range(epochs + 1):
        if epoch in recorded:
            activations = ensemble.activations()
            for name, estimator in measures.items():
                planes[name].append(plane(estimator, activations, ensemble.labels.numpy()))
        if epoch < epochs:
            ensemble.epoch()
    train, test = ensemble.accuracy(ensemble.activations()[-1])
    for name, points in planes.items():
        curves = np.stack(points)  # epoch, layer, seed, (I(X;T), I(T;Y))
        i_xt = curves[:, :HIDDEN, :, 0]
        row: Row = {"network": title, "estimator": name}
        for layer in range(HIDDEN):
            start, end = i_xt[0, layer], i_xt[-1, layer]
            row[f"layer {layer + 1}"] = f"{start.mean():.2f} to {end.mean():.2f} ±{end.std():.2f}"
        falls = i_xt.max(axis=0) - i_xt[-1]  # from the highest point of each curve
        row["falls, layers 3-5"] = round(float(falls[2:].mean()), 2)
        row["seeds falling 0.5 b"] = f"{int((falls[2:].max(axis=0) > 0.5).sum())} of {seeds}"
        row["I(T;Y) layer 5"] = round(float(curves[-1, HIDDEN - 1, :, 1].mean()), 3)
        row["train %"], row["test %"] = round(float(train.mean()), 2), round(float(test.mean()), 2)
        row["curves"] = json.dumps(
            {
                "epochs": recorded,
                "mean": curves.mean(axis=2).round(2).tolist(),
                "deviation": curves.std(axis=2).round(2).tolist(),
                "starts": i_xt[0].round(2).tolist(),  # layer, seed
                "ends": i_xt[-1].round(2).tolist(),
            }
        )
        yield row


def plane(
    estimator: Estimator, activations: list[NDArray[np.float32]], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """I(X;T) and I(T;Y), by layer and seed."""
    found = [[estimator.estimate(one, labels) for one in layer] for layer in activations]
    return np.array([[(e.i_xt, e.i_ty) for e in layer] for layer in found], np.float64)
