"""Optuna's own plots of a search, as files."""

import warnings
from pathlib import Path

from ..errors import OpenMedError
from ..files import atomic_file

# File name to what Optuna calls it.
PLOTS = {
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
}


def check_matplotlib() -> None:
    """Refuse what ends with plots, before it takes hours.

    RAISES (OpenMedError): matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OpenMedError(
            "The plots need matplotlib: pip install 'spacy-openmed[report]'."
        ) from error


def draw(folder: Path) -> list[Path]:
    """Draw the history, the importance of each setting, and the parallel coordinates.

    folder (Path): Of a search; gets ``plots/NAME.png``.
    RETURNS (list[Path]): The files. Importances need two finished trials that differ.
    RAISES (OpenMedError): No study there, or matplotlib is not installed.
    """
    from ..training.search.study import NAME, STUDY

    study_file = folder / STUDY
    if not study_file.is_file():
        raise OpenMedError(f"{folder} has no {STUDY}: it is not the folder of a search.")
    check_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    import optuna
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.visualization import matplotlib as plots

    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{study_file.resolve()}")
    complete = len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))
    drawn = []
    for name, function in PLOTS.items():
        if name == "importance" and complete < 2:
            continue
        with warnings.catch_warnings():
            # Its matplotlib plots are marked so since 2.2.
            warnings.simplefilter("ignore", ExperimentalWarning)
            getattr(plots, function)(study, target_name="dev F1")
        target = folder / "plots" / f"{name}.png"
        with atomic_file(target) as part:
            pyplot.savefig(part, format="png", dpi=150, bbox_inches="tight")
        pyplot.close("all")
        drawn.append(target)
    return drawn
