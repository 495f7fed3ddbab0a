"""The look of pictures, for a page, a notebook or a file of its own: rules below the class ``irp``."""

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
.irp .frozen .frame { stroke-dasharray: 3 2.5; }
.irp .small .frame { stroke-opacity: .35; }
.irp .barrier .frame { stroke: var(--bad); stroke-width: 1.6; stroke-opacity: 1; }
.irp .gone .frame { stroke: var(--bad); stroke-width: 1.6; stroke-opacity: .9; }
.irp .new .frame { stroke: var(--ok); stroke-width: 1.6; stroke-opacity: .9; }
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

STYLE = _RULES
ALONE = themed(".irp") + _RULES + ".irp .ground { fill: var(--page); }\n"
"""With the colours and a ground, for an SVG file or a notebook."""
