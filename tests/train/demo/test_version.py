"""Data of another version of the generator is not taken for this one's."""

import json

import pytest

from mobilevlm.errors import UserError
from mobilevlm.train.demo.make_benchmarks import FOLDER, make_benchmarks
from mobilevlm.train.demo.make_data import EDGES, make_data
from mobilevlm.train.demo.version import generator


def test_finished_data_is_kept_when_this_generator_made_it(tmp_path):
    sizes = {"images": 2, "texts": 2, "wide": 2, "edges": list(EDGES), "generator": generator()}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    make_data(tmp_path, 2, 2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["sizes.json"]
    (tmp_path / "sizes.json").write_text(json.dumps(sizes | {"generator": "another"}))
    with pytest.raises(UserError, match="of another version"):
        make_data(tmp_path, 2, 2, 2)


def test_benchmarks_of_another_generator_are_refused(tmp_path):
    make_benchmarks(tmp_path, 1)
    done = tmp_path / FOLDER / "sizes.json"
    before = done.stat().st_mtime_ns
    make_benchmarks(tmp_path, 1)
    assert done.stat().st_mtime_ns == before
    done.write_text(json.dumps(json.loads(done.read_text()) | {"generator": "another"}) + "\n")
    with pytest.raises(UserError, match="another"):
        make_benchmarks(tmp_path, 1)
