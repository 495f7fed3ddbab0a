"""What each pass does, as text: tests/golden/passes/PASS.txt has a graph before and after it.

    pytest tests/passes/test_goldens.py --regenerate-goldens

writes the files again.
"""

from __future__ import annotations

import pytest

from irprune import api
from irprune.passmanager import Pipeline, pass_names
from irprune.text import listing_of, parse
from tests.families.mace_models import without_torchscript  # noqa: F401
from tests.goldens import section
from tests.passes.golden_networks import network

EXACT = "cse,fold-onehot,fuse-conv,share-pairs,fuse-linear,cse"
CASES = {
    "compile": ("mace-single", api.EXACT.format(specialize=""), "compile{backend=eager}"),
    "cse": ("small", "", "cse"),
    "drop-layers": ("mace-deep", "", "drop-layers{layers=[2]}"),
    "eliminate-dead": ("wasteful", "", "eliminate-dead"),
    "export": ("small", "", "export{verify=false}"),
    "fold-onehot": ("small", "", "fold-onehot"),
    "fuse-conv": ("small", "", "fuse-conv"),
    "fuse-linear": ("small", "", "fuse-linear"),
    "lay-out": ("gated", "fold-onehot,fuse-conv,fuse-linear,cse", "lay-out"),
    "limit-correlation": ("mace-single", "", "limit-correlation{order=1}"),
    "lower-contraction": ("mace-single", "symmetrize-contraction", "lower-contraction"),
    "recover": ("small", "", "recover{steps=1,batch=1,structures=1}"),
    "rewrite-tp": ("wasteful", "", "rewrite-tp"),
    "score": ("chain", "", "score{by=magnitude}"),
    "select": ("chain", "score{by=magnitude}", "select{keep=0.5}"),
    "select-kernels": ("small", EXACT, "select-kernels{backend=reference}"),
    "share-pairs": ("small", "fuse-conv", "share-pairs"),
    "slice": ("chain", "score{by=magnitude},select{keep=0.5}", "slice"),
    "specialize-elements": ("small", "fold-onehot", "specialize-elements{elements=[H,O]}"),
    "symmetrize-contraction": ("mace-single", "", "symmetrize-contraction"),
    "tabulate-radial": ("small", EXACT, "tabulate-radial{shortest=0.4}"),
    "verify": ("chain", "", "verify"),
}
"""Pass → network, the pipeline before it, and the pass as it is run."""

pytestmark = pytest.mark.usefixtures("unscripted", "without_torchscript")


def test_every_pass_has_its_file():
    """Passes that a test registered aside."""
    assert {n for n in pass_names() if not n.startswith("t-")} == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_pass(name, golden, tmp_path):
    start, first, text = CASES[name]
    model = network(start)
    if first:
        model = api.run(first, model)
    after, report = api.run_reported(text, model, output=tmp_path / "out.irp")
    assert Pipeline.parse(text).text() == text
    left = report.results.get(name, {}) if name in LEAVING else {}
    for graph in (model, after):
        listing = listing_of(graph, costs=True, groups=True, tensors=True)
        assert parse(str(listing)) == listing
    golden.sections(
        f"passes/{name}.txt",
        {
            "network": start,
            "pipeline before": first or "none",
            "pass": text,
            "facts before": ", ".join(sorted(model.facts)),
            "facts after": ", ".join(sorted(after.facts)),
        },
        {
            "before": model.text(groups=model.keep is not None, tensors=True),
            "after": after.text(groups=after.keep is not None, tensors=True),
            "left": "\n".join(f"# {node}: {reason}" for node, reason in left.items()),
        },
    )
    assert parse(section(f"passes/{name}.txt", "after")) == listing_of(
        after, groups=after.keep is not None, tensors=True
    )


LEAVING = ("fold-onehot", "fuse-conv", "fuse-linear", "share-pairs", "symmetrize-contraction")


@pytest.mark.parametrize("damage", ["a line more", "another type", "no file"])
def test_a_difference_fails(damage, golden, tmp_path):
    from tests.goldens import Goldens

    text = str(listing_of(network("chain")))
    mine = Goldens(False, tmp_path)
    if damage != "no file":
        Goldens(True, tmp_path)("x.txt", text)
        mine("x.txt", text)
    changed = {"a line more": f"{text}\n# more", "another type": text.replace("0e", "0o")}
    with pytest.raises(AssertionError, match=r"says something else|no .*--regenerate-goldens"):
        mine("x.txt", changed.get(damage, text))
