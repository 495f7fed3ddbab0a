"""C++ for the polynomials of a PolySpec and their first and second derivatives.

Weights are first combined into one coefficient per monomial, the polynomial is then evaluated by
Horner's scheme; derivatives come from reverse differentiation of exactly that program. Channels are
the vector lanes, atoms run in parallel.
"""

from __future__ import annotations

from irprune.irreps import Segment
from irprune.kernels.cpu.expression import Node, Program
from irprune.kernels.cpu.source import prelude, transposition
from irprune.specs.poly import PolySpec


def build(spec: PolySpec) -> tuple[Program, dict[int, Node]]:
    """The program of the values, and the node of each component of the result."""
    program = Program()
    by_component: dict[int, dict[tuple[int, ...], dict[int, float]]] = {}
    for component, path, factors, value in spec.terms:
        row = by_component.setdefault(component, {}).setdefault(factors, {})
        row[path] = row.get(path, 0.0) + value
    out = {}
    for component, monomials in sorted(by_component.items()):
        coefficients = {}
        for factors, combination in sorted(monomials.items()):
            terms = [program.scale(program.read("w", p), v) for p, v in sorted(combination.items())]
            total = program.total(terms)
            assert total is not None
            coefficients[factors] = total
        out[component] = _horner(program, coefficients)
    return program, out


def _horner(program: Program, coefficients: dict[tuple[int, ...], Node]) -> Node:
    """Σ coefficient · Π x, the first factors outermost."""
    terms = [coefficients[()]] if () in coefficients else []
    inner: dict[int, dict[tuple[int, ...], Node]] = {}
    for factors, node in coefficients.items():
        if factors:
            inner.setdefault(factors[0], {})[factors[1:]] = node
    for first, rest in sorted(inner.items()):
        terms.append(program.times(program.read("x", first), _horner(program, rest)))
    total = program.total(terms)
    assert total is not None
    return total


def first_derivatives(
    spec: PolySpec, program: Program, values: dict[int, Node]
) -> tuple[dict[int, Node], dict[int, Node]]:
    """Nodes of Σ g ∂out/∂x and Σ g ∂out/∂w, by component and by path."""
    seeds: dict[Node, Node] = {}
    for component, node in values.items():  # equal components are one node
        seeds[node] = program.plus(seeds.get(node), program.read("g", component))
    bars = program.adjoints(seeds)
    return _collect(program, bars, "x"), _collect(program, bars, "w")


def _collect(program: Program, bars: dict[Node, Node], name: str) -> dict[int, Node]:
    out = {}
    for node, bar in bars.items():
        kind, *rest = program.nodes[node]
        if kind == "read" and rest[0] == name:
            out[int(rest[1])] = bar
    return out


def source(spec: PolySpec, real: str, order: int) -> str:
    """The program of the values (order 0), of first or of second derivatives."""
    dx, dy = spec.dims
    program, values = build(spec)
    if order == 0:
        results = {"y": values}
    else:
        gx, gw = first_derivatives(spec, program, values)
        results = {"gx": gx, "gw": gw}
        if order == 2:
            seeds: dict[Node, Node] = {}
            for name, nodes in (("ax", gx), ("aw", gw)):
                for i, node in nodes.items():
                    seed = program.read(name, i)
                    seeds[node] = program.plus(seeds.get(node), seed)
            bars = program.adjoints(seeds)
            results = {f"h{n}": _collect(program, bars, n) for n in ("g", "x", "w")}
    sizes = {"x": dx, "w": spec.n_paths, "g": dy, "ax": dx, "aw": spec.n_paths}
    outputs = {"y": dy, "gx": dx, "gw": spec.n_paths, "hg": dy, "hx": dx, "hw": spec.n_paths}
    reads = ["x", "w"] + (["g"] if order else []) + (["ax", "aw"] if order == 2 else [])
    writes = list(results)
    stores = {
        f"st({name} + {i} * K + u, $)": node
        for name, nodes in results.items()
        for i, node in sorted(nodes.items())
    }
    parameters = ", ".join([f"const T* {n}" for n in reads] + [f"T* {n}" for n in writes])
    lanes = ", ".join(reads + writes)
    kinds = {"x": "rows", "ax": "rows", "gx": "rows", "hx": "rows", "g": "outs", "y": "outs",
             "hg": "outs"}  # fmt: skip
    body, after = "", ""
    for name in reads:
        size = sizes[name]
        if name in kinds:
            body += f"      apart_{kinds[name]}({name} + n * {size} * K, v_{name}.data());\n"
            body += f"      const T* c_{name} = v_{name}.data();\n"
        else:
            body += f"      const T* c_{name} = {name} + n * {size} * K;\n"
    for name in writes:
        size = outputs[name]
        if name in kinds:
            body += f"      T* c_{name} = v_{name}.data();\n"
            after += f"      together_{kinds[name]}(c_{name}, {name} + n * {size} * K);\n"
        else:
            body += f"      T* c_{name} = {name} + n * {size} * K;\n"
        if len(results[name]) < size:  # what no term touches
            body += f"      memset(c_{name}, 0, {size} * K * sizeof(T));\n"
    scratch = "".join(
        f"    std::vector<T> v_{n}({(sizes | outputs)[n]} * K + 16);\n"
        for n in reads + writes
        if n in kinds
    )
    given = ", ".join(f"c_{n}" for n in reads + writes)
    inputs = tuple(Segment(spec.channels, order_, p) for order_, p in spec.inputs)
    made = tuple(Segment(spec.channels, order_, p) for order_, p in spec.outputs)
    return "\n".join(
        [
            prelude(real),
            f"static const I K = {spec.channels};",
            transposition("apart_rows", inputs),
            transposition("apart_outs", made),
            transposition("together_rows", inputs, inverse=True),
            transposition("together_outs", made, inverse=True),
            f"template <class A> static inline void lane(I u, {parameters}) {{",
            program.code(stores),
            "}",
            f'extern "C" void run(I N, {parameters}, int threads) {{',
            "  #pragma omp parallel num_threads(threads)",
            "  {",
            scratch + "    #pragma omp for schedule(static)",
            "    for (I n = 0; n < N; ++n) {",
            body + "      I u = 0;",
            f"      for (; u + L <= K; u += L) lane<W>(u, {given});",
            f"      for (; u < K; ++u) lane<T>(u, {given});",
            after + "    }",
            "  }",
            "}",
            f"// {lanes}",
        ]
    )
