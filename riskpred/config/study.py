"""A study: a folder of YAML (ingest, outcomes, features, network, words, imaging); packaged, or the user's own."""

import re
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from riskpred.config.features import FeaturesConfig
from riskpred.config.files import shipped
from riskpred.config.findings import finding_codes, is_finding, radiomics_codes
from riskpred.config.guideline import GuidelineConfig
from riskpred.config.ingest import IngestConfig
from riskpred.config.model import Strict, load
from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.config.outcomes import OutcomesConfig
from riskpred.config.segmentation import ImagingConfig
from riskpred.config.words import StudyWords, load_study_words
from riskpred.errors import ConfigError


class About(Strict):
    """about.yaml: what a study is, for `riskpred studies` and the reports."""

    title: str
    needs: str = Field(description="files that SOURCE must hold")
    source: str = Field(description="where its owner gives the data")
    licence: str
    cautions: tuple[str, ...] = ()


class ModelConfig(Strict):
    """What fit needs of a study, and what a bundle keeps of its YAML."""

    name: str
    outcomes: OutcomesConfig
    features: FeaturesConfig
    network: NetworkConfig
    words: StudyWords = StudyWords()
    guideline: GuidelineConfig | None = None
    imaging: ImagingConfig = ImagingConfig()


def study_folder(study: str) -> Path:
    """Folder of a packaged study by name, or the user's own folder by path.

    Raises: ConfigError, when it is neither, with the packaged names.
    """
    if Path(study).is_dir():
        return Path(study)
    packaged = shipped("configs") / "studies" / study
    if Path(study).name == study and packaged.is_dir():
        return packaged
    raise ConfigError(
        f"study {study}: neither a folder nor a packaged study.",
        wanted=f"a folder with ingest.yaml, outcomes.yaml, features.yaml, or one of {', '.join(packaged_studies())}",
        do="run `riskpred studies` for the list",
    )


def packaged_studies() -> list[str]:
    """Names of the studies shipped in configs/studies/, sorted."""
    return sorted(folder.name for folder in (shipped("configs") / "studies").iterdir() if folder.is_dir())


def load_ingest(study: str) -> IngestConfig:
    return load(IngestConfig, study_folder(study) / "ingest.yaml")


def load_about(study: str) -> About:
    return load(About, study_folder(study) / "about.yaml")


def load_cautions(study: str) -> tuple[str, ...]:
    """What about.yaml says to beware of; none for a user's study without that file."""
    there = (study_folder(study) / "about.yaml").is_file()
    return load_about(study).cautions if there else ()


def load_model_config(study: str) -> ModelConfig:
    """A study's outcomes and features.yaml and, where there, network, words, guideline, imaging.yaml; checked together.

    Raises: ConfigError: a label code of an outcome known at once used as a feature; an encoder without a modality;
        a guideline equation for an outcome that the study has not; a feature of findings that imaging.yaml does not
        make; weights of an image network that are not there.
    """
    folder = study_folder(study)
    network, guideline, imaging = (folder / f"{name}.yaml" for name in ("network", "guideline", "imaging"))
    outcomes = load(OutcomesConfig, folder / "outcomes.yaml")
    features = load(FeaturesConfig, folder / "features.yaml")
    config = ModelConfig(
        name=folder.name,
        outcomes=outcomes,
        features=features,
        words=load_study_words(folder, features, outcomes),
        network=_placed(load(NetworkConfig, network), network) if network.is_file() else NetworkConfig(),
        guideline=load(GuidelineConfig, guideline) if guideline.is_file() else None,
        imaging=load(ImagingConfig, imaging) if imaging.is_file() else ImagingConfig(),
    )
    _refuse_unknown_outcomes(config, guideline)
    _refuse_label_codes_as_features(config, folder)
    _refuse_findings_that_nothing_makes(config, folder)
    orphans = sorted(
        name
        for name, encoder in config.network.encoders.items()
        if name not in config.features.modalities or config.features.modalities[name].kind != encoder.kind
    )
    if orphans:
        wanted = ", ".join(f"{name} ({spec.kind})" for name, spec in config.features.modalities.items())
        raise ConfigError(
            f"{network}: encoders without a modality of that name and kind in features.yaml: {', '.join(orphans)}.",
            wanted=f"names and kinds among {wanted}",
            do="rename or remove them",
        )
    return config


def portable(config: ModelConfig) -> ModelConfig:
    """The same as another machine may have it: files of weights by name, not by the place where they lay."""
    return config.model_copy(update={"network": _files(config.network, lambda file: Path(file).name)})


def _placed(network: NetworkConfig, path: Path) -> NetworkConfig:
    """Files of weights looked for beside network.yaml. Raises: ConfigError, where one is not there."""

    def found(file: str) -> str:
        place = (path.parent / file).resolve()
        if not place.is_file():
            raise ConfigError(
                f"{path}: the weights of an image network are not there: {file}.",
                wanted="a file (.safetensors, or .pth of weights alone); a relative path starts at the study's folder",
                got=f"no file {place}",
                do="put the file there, or correct encoders.<name>.weights.file",
            )
        return str(place)

    return _files(network, found)


def _files(network: NetworkConfig, change: Callable[[str], str]) -> NetworkConfig:
    encoders = dict(network.encoders)
    for name, encoder in encoders.items():
        if isinstance(encoder, ImageEncoder) and encoder.weights is not None:
            moved = encoder.weights.model_copy(update={"file": change(encoder.weights.file)})
            encoders[name] = encoder.model_copy(update={"weights": moved})
    return network.model_copy(update={"encoders": encoders})


def code_matches(code: str, patterns: tuple[str, ...]) -> bool:
    """Whether a code is listed, or starts with a listed prefix that ends in *."""
    return any(code == p or (p.endswith("*") and code.startswith(p[:-1])) for p in patterns)


def _refuse_findings_that_nothing_makes(config: ModelConfig, folder: Path) -> None:
    """A feature FINDING//... or IMAGE//... that no stage makes would be missing for everyone, without a word."""
    stages = config.imaging.stages
    if not stages:
        return  # such codes may be events that somebody recorded
    both = sorted(set(stages) & set(config.features.modalities))
    if both or not all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in stages):
        raise ConfigError(
            f"{folder / 'imaging.yaml'}: names of stages: {', '.join(both or stages)}.",
            wanted="letters, digits and _, and no name of a modality of features.yaml",
            do="rename the stages",
        )
    made = (
        *finding_codes(label for stage in config.imaging.segmentation.values() for label in stage.names),
        *radiomics_codes(config.imaging.radiomics),
    )
    for name, spec in config.features.modalities.items():
        if spec.kind == "image":
            continue
        blocks = (
            [(spec.codes, False, spec.required)]
            if spec.kind == "series"
            else [(block.codes, block.category, block.required) for block in spec.features]
        )
        for codes, category, required in blocks:
            mine = [code for code in codes if is_finding(code)]
            unmade = [code for code in mine if not any(code_matches(one, (code,)) for one in made)]
            mixed = [code for code in mine if code.endswith("*")]
            if unmade or mixed or (mine and (category or required)):
                raise ConfigError(
                    f"{folder / 'features.yaml'}: modalities.{name}: findings that cannot be read so: "
                    f"{', '.join(unmade or mixed or mine)}.",
                    wanted=f"codes among {', '.join(made)}; each by itself, neither a category nor required",
                    do="correct the codes, or the labels and stages of imaging.yaml",
                )


def _refuse_unknown_outcomes(config: ModelConfig, path: Path) -> None:
    known = config.outcomes.outcomes
    unknown = sorted(set(config.guideline.equations) - set(known)) if config.guideline is not None else []
    if unknown:
        raise ConfigError(
            f"{path}: equations for outcomes that are not in outcomes.yaml: {', '.join(unknown)}.",
            wanted=f"outcomes among {', '.join(known)}",
            do="rename or remove them",
        )


def _refuse_label_codes_as_features(config: ModelConfig, folder: Path) -> None:
    for name, outcome in config.outcomes.outcomes.items():
        if not outcome.known_at_once:
            continue
        for modality, spec in config.features.modalities.items():
            if spec.kind == "image":
                continue
            used = (
                spec.codes if spec.kind == "series" else tuple(code for block in spec.features for code in block.codes)
            )
            leaks = sorted(
                code
                for code in used
                if any(
                    code_matches(code.rstrip("*"), (label,)) or code_matches(label.rstrip("*"), (code,))
                    for label in outcome.rule.codes
                )
            )
            if leaks:
                raise ConfigError(
                    f"{folder / 'features.yaml'}: modalities.{modality} uses label codes of the outcome {name}, "
                    "which is known at once.",
                    wanted="no label code among the features: the model would read the answer",
                    got=", ".join(leaks),
                    do="remove them from features.yaml",
                )
