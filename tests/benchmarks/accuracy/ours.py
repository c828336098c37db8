"""riskpred as a method: the shipped fit on the training part, scored with all inputs and with some taken away."""

from riskpred.config.network import NetworkConfig
from riskpred.fit.grid import learn_layout
from riskpred.fit.members import fit_members
from riskpred.fit.run import _repeatable
from tests.benchmarks.accuracy.task import ALL_INPUTS, Floats, Result, Task, without


def fit(task: Task) -> Result:
    """The model as shipped."""
    return fit_as(task, task.config.network)


def fit_untreated(task: Task) -> Result:
    """What happens without our remedies for a missing modality: no modality dropout, one pooled calibration map."""
    return fit_as(task, untreated(task.config.network))


def untreated(network: NetworkConfig) -> NetworkConfig:
    """The network's settings with both remedies off."""
    training = network.training.model_copy(update={"modality_dropout": 0.0})
    return network.model_copy(update={"training": training, "pooled_calibration": True})


def fit_as(task: Task, network: NetworkConfig) -> Result:
    """One fit with the given settings, and the risks of every scenario of the set."""
    with _repeatable():
        layout = learn_layout(task.config.outcomes, task.train, network.intervals)
        assert layout.targets == task.targets, "a layout's targets are those of outcomes.yaml"
        model = fit_members(network, task.plan, layout, task.train, task.seed).model
        whole = model.predict(task.test.batch)
        risk: dict[str, Floats] = {ALL_INPUTS: whole.risk}
        for scenario, modalities in task.spec.absent.items():
            risk[scenario] = model.predict(without(task.test.batch, modalities)).risk
    return Result(risk, whole.low, whole.high)
