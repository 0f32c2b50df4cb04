"""`piip eval`: score a model on a labelled dataset."""

from collections.abc import Sequence

from piip.cli.card_table import tell_notice
from piip.cli.console import check_file, check_json, note, output, parse, progress_bar, warn, write_json
from piip.cli.processes import is_main_process, join_processes, num_processes
from piip.cli.tasks import EvalArguments, find_task, refuse_unused
from piip.zoo.load import create_model, find_config, is_saved


def run(arguments: list[str]) -> int:
    """Evaluate, on all processes of the launcher."""
    options = parse(EvalArguments, "eval", arguments)
    with join_processes(options.device) as device:
        check_json(options.json)
        check_file(options.results, "--results")
        task = find_task(find_config(options.model))
        refuse_unused(task, options)
        model = create_model(options.model, options.weights, device=device)
        if is_main_process():
            tell_notice(options.model, trained_elsewhere=options.weights is not None)
        if options.weights is None and not is_saved(options.model) and is_main_process():
            warn("no --weights were given: this model's weights are random, and so are its scores")
        evaluation = task.open_evaluation(model, options)
        if is_main_process():
            _print_dataset(evaluation.summary, evaluation.problems)
        with progress_bar(visible=is_main_process()) as bar:
            total = -(-evaluation.num_images // num_processes())
            progress = bar.add_task(f"{evaluation.num_images} images", total=total)
            report = evaluation.run(lambda done: bar.advance(progress, done))
        if is_main_process():
            if options.json is not None:
                write_json(report.json, options.json)
            if str(options.json) != "-":
                output.print(report.table)
                if options.per_class:
                    output.print(report.class_table)
    return 0


def _print_dataset(summary: str, problems: Sequence[str]) -> None:
    if summary:
        note(summary)
    for problem in problems:
        warn(problem)
