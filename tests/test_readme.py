import re
import shlex
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_first_example_runs_and_prints_what_it_says(capsys):
    example = blocks("python")[0]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "torch.Size([1, 8, 8, 768])",
        "torch.Size([1, 12, 12, 384])",
        "torch.Size([1, 23, 23, 192])",
        "torch.Size([1, 10])",
    ]


def test_it_shows_every_command():
    from piip.cli.main import _COMMANDS

    shown = re.findall(r"^piip (\w+)", "".join(blocks("")), re.MULTILINE)
    assert sorted(shown) == sorted(_COMMANDS)


def test_a_screen_is_as_shown(capsys):
    from piip.cli.main import run

    command, shown = next(text.split("\n", 1) for text in blocks("") if text.startswith("$ piip models "))
    assert run(shlex.split(command)[2:]) == 0
    assert capsys.readouterr().out.startswith(shown)
