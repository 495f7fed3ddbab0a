"""The look of pictures, for a page, a notebook or a file of its own: rules below the class ``irp``.

The switches of a page are rules as well: ``:has`` asks which box is checked, so they need no script.
"""

from irprune.picture.model import MEASURES
from irprune.report.palette import themed

_RULES = """
.irp text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  fill: var(--ink); }
.irp .title { font-size: 13px; font-weight: 650; }
.irp .dim { fill: var(--dim); }
.irp .band { fill: var(--card); stroke: var(--rule); }
.irp .head { font-weight: 600; }
.irp .small .head { font-weight: 400; font-size: 9.5px; fill: var(--dim); }
.irp .m-dots { font-size: 9px; fill: var(--dim); opacity: .7; }
.irp .m { font-size: 9px; fill: var(--dim); display: none; }
.irp .m-irreps { display: inline; }
.irp .frame { fill: var(--page); stroke: var(--dim); stroke-opacity: .55; }
.irp .key-frame { fill: var(--page); stroke: var(--dim); stroke-opacity: .55; }
.irp .frozen .frame, .irp .key-frame.frozen { stroke-dasharray: 3 2.5; }
.irp .small .frame { stroke-opacity: .35; }
.irp .barrier .frame, .irp .key-frame.barrier,
.irp .gone .frame, .irp .key-frame.gone { stroke: var(--bad); stroke-width: 1.6; stroke-opacity: .9; }
.irp .new .frame, .irp .key-frame.new { stroke: var(--ok); stroke-width: 1.6; stroke-opacity: .9; }
.irp .heat { fill: var(--c1); fill-opacity: 0; }
.irp .dot .frame { fill: var(--rule); stroke: none; }
.irp .dot.param .frame { fill: var(--dim); }
.irp .port { fill: none; stroke: var(--rule); }
.irp .port + text { font-size: 9px; fill: var(--dim); }
.irp .edge { fill: none; stroke: var(--dim); stroke-opacity: .6; stroke-width: 1.3; }
.irp .between { stroke-opacity: .35; stroke-dasharray: 1.5 3; stroke-linecap: round; }
.irp .l0 { fill: var(--c0); } .irp .l1 { fill: var(--c1); } .irp .l2 { fill: var(--c2); }
.irp .l3 { fill: var(--c3); } .irp .l4 { fill: var(--c4); } .irp .l5 { fill: var(--c5); }
.irp .went { fill-opacity: .2; }
"""

_TREES = """
.irp .tile rect { stroke: var(--page); stroke-width: .6; fill-opacity: .82; }
.irp .around { fill: none; stroke: var(--page); stroke-width: 3; }
.irp .c0 { fill: var(--c0); } .irp .c1 { fill: var(--c1); } .irp .c2 { fill: var(--c2); }
.irp .c3 { fill: var(--c3); } .irp .c4 { fill: var(--c4); } .irp .c5 { fill: var(--c5); }
.irp text.inside { fill: #fff; font-weight: 600; pointer-events: none; }
.irp text.thin { font-weight: 400; font-size: 10px; }
.irp text.layer { fill: #fff; font-size: 10px; font-style: italic; pointer-events: none; }
"""

_PAGE = """
.irp-wide { width: min(1680px, 96vw); position: relative; left: 50%; transform: translateX(-50%); }
.irp-fig figure { margin: 0; min-width: 0; }
.irp-fig figcaption { font-size: .88rem; font-weight: 600; margin-bottom: .3rem; }
.irp-fig .legend { flex-wrap: wrap; font-size: .88rem; margin: .3rem 0 .6rem; }
.irp-fig .panels { display: grid; gap: 20px; }
.irp-fig:has(.irp-beside:checked) .panels { grid-template-columns: 1fr 1fr; }
.bar { position: sticky; top: 0; z-index: 3; background: var(--page); padding: .4rem 0;
  border-bottom: 1px solid var(--rule); }
.controls { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .2rem 0; font-size: .92rem; }
.controls label { cursor: pointer; }
.groups { columns: 20rem; list-style: none; padding: 0; margin: .4rem 0 0; font-size: .85rem;
  max-height: 30vh; overflow: auto; }
.groups small, .bar summary { color: var(--dim); }
.bar summary { font-size: .92rem; }
.groups button { font: inherit; color: var(--ink); background: none; border: 1px solid var(--rule);
  border-radius: 4px; padding: 0 .4em; cursor: pointer; }
.groups button:disabled { cursor: default; border-color: transparent; }
.groups button[aria-pressed=true] { border-color: var(--line); color: var(--line); }
.irp .node, .irp .in { transition: opacity .15s; }
.irp .edge.near { stroke: var(--line); stroke-opacity: 1; stroke-width: 2; }
.irp .node.same .frame { stroke: var(--line); stroke-opacity: 1; stroke-width: 1.8; }
.irp-fig.lit .node:not(.on), .irp-fig.lit .in, .irp-fig.lit .edge { opacity: .3; }
.irp-fig:has(.irp-frozen:not(:checked)) :is(.node, .in, .edge).frozen,
.irp-fig:has(.irp-plain:not(:checked)) :is(.node.dot, .m-dots) { visibility: hidden; }
.irp-tip { position: fixed; z-index: 9; max-width: min(34rem, 90vw); padding: .45rem .65rem;
  background: var(--card); color: var(--ink); border: 1px solid var(--rule); border-radius: 6px;
  box-shadow: 0 4px 18px #0003; font: 12px/1.45 ui-monospace, Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; pointer-events: none; }
.irp-tip[hidden] { display: none; }
"""


def _measured(m: str) -> str:
    """What a page shows while a measure is chosen: its numbers, its heat, its treemap."""
    chosen = f".irp-fig:has([name=irp-measure][value={m}]:checked)"
    return (
        f"{chosen} .m-irreps {{ display: none; }}\n"
        f"{chosen} .m-{m} {{ display: inline; fill: var(--ink); }}\n"
        f"{chosen} .heat {{ fill-opacity: calc(.62 * var(--{m}, 0)); }}\n"
        f".irp-trees:has([value={m}]:not(:checked)) .tree-{m} {{ display: none; }}\n"
    )


STYLE = _RULES + _TREES + _PAGE + "".join(_measured(m) for m in MEASURES if m != "irreps")
"""For a page that has the colours already."""
ALONE = themed(".irp") + _RULES + ".irp .ground { fill: var(--page); }\n"
"""With the colours and a ground, for an SVG file or a notebook."""
