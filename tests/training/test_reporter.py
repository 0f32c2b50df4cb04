from piip.training.reporter import RunLog, read_log


def record(kind, step):
    return {"kind": kind, "step": step, "loss": 0.5}


def test_a_log_is_continued_where_the_run_is(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RunLog(path, 0, 0)
    records = [record("train", 1), record("eval", 1), record("train", 2), record("eval", 2), record("train", 3)]
    for line in records:
        log.write(line)
    assert read_log(path) == records
    RunLog(path, step=2, evaluated_step=1)
    assert read_log(path) == records[:3]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    RunLog(path, 0, 0).write(record("train", 1))
    with path.open("a") as file:
        file.write('{"kind": "tr')
    assert read_log(path) == [record("train", 1)]
    RunLog(path, step=1, evaluated_step=0).write(record("train", 2))
    assert read_log(path) == [record("train", 1), record("train", 2)]


def test_no_log_has_no_records(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []
