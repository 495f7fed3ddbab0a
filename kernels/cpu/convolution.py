"""C++ for gather, tensor product and scatter as one loop over atoms, generated from a PathSpec.

Forward: atoms in parallel, each with the edges that end there, four at a time; the couplings are
contracted with the harmonics of an edge first, and channels are the vector lanes. Backward: atoms in
parallel, each with the edges that start there, so that no two threads write to one row. No tensor of
size [edges, channels, …] is made but the weights and their gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

from irprune.irreps import Segment
from irprune.kernels.cpu.source import number, prelude, transposition
from irprune.specs.path import PathSpec, SpecPath

Form = tuple[tuple[int, float], ...]
"""Σ value · y[index], the coupling of one pair (m1, m3) with the harmonics."""

EDGES = 4
"""Edges that share one load and store of the sums."""


class Forms:
    """The distinct forms of a spec; a form and its negative are one."""

    def __init__(self, spec: PathSpec) -> None:
        self.spec = spec
        self.starts = spec.offsets(spec.in2)
        self.number: dict[Form, int] = {}

    def of(self, path: SpecPath) -> dict[tuple[int, int], tuple[int, bool]]:
        """(m1, m3) → number of the form, and whether it enters with a minus."""
        pairs: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for m1, m2, m3, value in path.coupling:
            entry = (self.starts[path.i2] + m2, value * path.coefficient)
            pairs.setdefault((m1, m3), []).append(entry)
        return {pair: self._form(tuple(sorted(form))) for pair, form in pairs.items()}

    def _form(self, form: Form) -> tuple[int, bool]:
        negative = form[0][1] < 0
        if negative:
            form = tuple((i, -v) for i, v in form)
        return self.number.setdefault(form, len(self.number)), negative

    def code(self) -> str:
        """``forms(y, m)`` fills them for one edge."""
        lines = []
        for form, k in self.number.items():
            lines.append(f"  m[{k}] = {' + '.join(f'{number(v)} * y[{i}]' for i, v in form)};")
        return "\n".join(["static inline void forms(const T* y, T* m) {", *lines, "}", ""])


def source(spec: PathSpec, real: str) -> str:
    """The whole program: ``forward`` and ``backward`` for ``float`` or ``double``."""
    forms = Forms(spec)
    tables = [forms.of(p) for p in spec.paths]
    parts = [
        prelude(real),
        transposition("rows1", spec.in1),
        transposition("rows3", spec.out),
        transposition("back1", spec.in1, inverse=True),
        transposition("back3", spec.out, inverse=True),
        f"static const I D1 = {spec.dims[0]}, D2 = {spec.dims[1]}, D3 = {spec.dims[2]},"
        f" NW = {spec.n_weights}, NM = {max(1, len(forms.number))};",
        forms.code(),
    ]
    for k, (path, table) in enumerate(zip(spec.paths, tables, strict=True)):
        parts.append(_forward_path(k, spec, path, table))
        parts.append(_backward_path(k, spec, path, table))
    calls = {"forward": "", "backward": ""}
    for k, path in enumerate(spec.paths):
        mul, at2 = spec.in1[path.i1].mul, forms.starts[path.i2]
        calls["forward"] += _loop(mul, f"f{k}<%s, NE>(u, x, w, m, o)")
        n2 = spec.in2[path.i2].dim
        lanes = ", ".join(f"y{i}" for i in range(n2))
        zeros = ", ".join(f"y{i} = {{}}" for i in range(n2))
        tail = ", ".join(f"z{i}" for i in range(n2))
        tails = ", ".join(f"z{i} = 0" for i in range(n2))
        body = (
            f"    {{ W {zeros}; T {tails}; I u = 0;\n"
            f"      for (; u + L <= {mul}; u += L) b{k}<W, GX>(u, x, w, g, gx, old, gw, m, {lanes});\n"
            f"      for (; u < {mul}; ++u) b{k}<T, GX>(u, x, w, g, gx, old, gw, m, {tail});\n"
        )
        body += (
            "".join(f"      gy[{at2 + i}] += sum(y{i}) + z{i};\n" for i in range(n2)) + "    }\n"
        )
        calls["backward"] += body
    parts.append(_FORWARD.replace("CALLS", calls["forward"]).replace("EDGES", str(EDGES)))
    parts.append(_BACKWARD.replace("CALLS", calls["backward"]))
    return "\n".join(parts)


def _loop(mul: int, call: str) -> str:
    return (
        "    { I u = 0;\n"
        f"      for (; u + L <= {mul}; u += L) {call % 'W'};\n"
        f"      for (; u < {mul}; ++u) {call % 'T'}; }}\n"
    )


def _starts(spec: PathSpec, path: SpecPath) -> tuple[int, int, Segment, Segment]:
    a, c = spec.in1[path.i1], spec.out[path.out]
    return spec.offsets(spec.in1)[path.i1], spec.offsets(spec.out)[path.out], a, c


def _signed(terms: Sequence[tuple[bool, str]]) -> str:
    """Terms with their signs as one sum."""
    text = "".join(f" {'-' if minus else '+'} {t}" for minus, t in terms)
    return text.removeprefix(" + ")


def _forward_path(
    k: int, spec: PathSpec, path: SpecPath, table: dict[tuple[int, int], tuple[int, bool]]
) -> str:
    at1, at3, a, c = _starts(spec, path)
    used1, used3 = sorted({i for i, _ in table}), sorted({j for _, j in table})
    lines = [
        "template <class A, int NE> static inline __attribute__((always_inline))",
        f"void f{k}(I u, const T* const* x, const T* const* w, const T (*m)[NM], T* o) {{",
        *(f"  A a{j} = ld<A>(o + {at3 + j * c.mul} + u);" for j in used3),
        "  #pragma GCC unroll 4",
        "  for (int e = 0; e < NE; ++e) {",
        f"    const A v = ld<A>(w[e] + {path.weight} + u);",
    ]
    load = "ld<A>(x[e] + {} + u)"
    if len(used1) <= len(used3):
        for i in used1:
            lines.append(f"    const A x{i} = v * {load.format(at1 + i * a.mul)};")
            for j in used3:
                if (i, j) in table:
                    form, minus = table[i, j]
                    lines.append(f"    a{j} {'-' if minus else '+'}= m[e][{form}] * x{i};")
    else:
        lines += [f"    const A x{i} = {load.format(at1 + i * a.mul)};" for i in used1]
        for j in used3:
            terms = [(table[i, j][1], f"m[e][{table[i, j][0]}] * x{i}") for i in used1
                     if (i, j) in table]  # fmt: skip
            lines.append(f"    a{j} += v * ({_signed(terms)});")
    lines += ["  }", *(f"  st(o + {at3 + j * c.mul} + u, a{j});" for j in used3), "}", ""]
    return "\n".join(lines)


def _backward_path(
    k: int, spec: PathSpec, path: SpecPath, table: dict[tuple[int, int], tuple[int, bool]]
) -> str:
    at1, at3, a, c = _starts(spec, path)
    used1, used3 = sorted({i for i, _ in table}), sorted({j for _, j in table})
    n2 = spec.in2[path.i2].dim
    arguments = ", ".join(f"A& y{i}" for i in range(n2))
    lines = [
        "template <class A, bool GX> static inline __attribute__((always_inline))",
        f"void b{k}(I u, const T* x, const T* w, const T* g, T* gx, const T* old, T* gw,"
        f" const T* m, {arguments}) {{",
        f"  const A v = ld<A>(w + {path.weight} + u);",
        *(f"  const A g{j} = ld<A>(g + {at3 + j * c.mul} + u);" for j in used3),
        f"  A s = ld<A>(old + {path.weight} + u);",
    ]
    for i in used1:
        terms = [(table[i, j][1], f"m[{table[i, j][0]}] * g{j}") for j in used3 if (i, j) in table]
        lines += [
            f"  const A x{i} = ld<A>(x + {at1 + i * a.mul} + u);",
            f"  const A h{i} = {_signed(terms)};",
            f"  s += x{i} * h{i};",
            f"  if (GX) st(gx + {at1 + i * a.mul} + u, ld<A>(gx + {at1 + i * a.mul} + u)"
            f" + v * h{i});",
            f"  const A q{i} = v * x{i};",
        ]
    lines.append(f"  st(gw + {path.weight} + u, s);")
    by_pair: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for m1, m2, m3, value in path.coupling:
        by_pair.setdefault((m1, m3), []).append((m2, value * path.coefficient))
    for (i, j), entries in sorted(by_pair.items()):
        lines.append(f"  {{ const A p = q{i} * g{j};")
        for m2, value in entries:
            sign = "-" if value < 0 else "+"
            lines.append(f"    y{m2} {sign}= {number(abs(value))} * p;")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


_EDGE_LISTS = """\
  const I *snd = edges, *rcv = snd + E, *row = rcv + E, *perm_r = row + E, *ptr_r = perm_r + E,
          *perm_s = ptr_r + N + 1, *ptr_s = perm_s + E, *own = ptr_s + N + 1;
"""

_FORWARD = (
    """\
template <int NE> static inline void some(const T* const* x, const T* const* w, const T (*m)[NM],
                                          T* o) {
CALLS}

extern "C" void forward(I N, I E, const T* x, const T* y, const T* w, const I* edges, T* out, T* xs,
                        int threads) {
"""
    + _EDGE_LISTS
    + """\
  (void)perm_s; (void)ptr_s; (void)rcv; (void)own;
  #pragma omp parallel num_threads(threads)
  {
    #pragma omp for schedule(static)
    for (I n = 0; n < N; ++n) rows1(x + n * D1, xs + n * D1);
    std::vector<T> sums(D3 + 16);
    T* o = sums.data();
    T m[EDGES][NM];
    const T *xe[EDGES], *we[EDGES];
    #pragma omp for schedule(dynamic, 4)
    for (I n = 0; n < N; ++n) {
      memset(o, 0, D3 * sizeof(T));
      I k = ptr_r[n], end = ptr_r[n + 1];
      for (; k < end;) {
        const int ne = end - k >= EDGES ? EDGES : 1;
        for (int i = 0; i < ne; ++i) {
          const I e = perm_r[k + i];
          forms(y + e * D2, m[i]);
          xe[i] = xs + snd[e] * D1;
          we[i] = w + row[e] * NW;
        }
        if (ne == EDGES) some<EDGES>(xe, we, m, o); else some<1>(xe, we, m, o);
        k += ne;
      }
      back3(o, out + n * D3);
    }
  }
}
"""
)

_BACKWARD = (
    """\
template <bool GX> static inline void edge(const T* x, const T* w, const T* g, T* gx, const T* old,
                                           T* gw, const T* m, T* gy) {
CALLS}

// own[e] = 1: the first of the edges that share a row of weights; the others add to it.
template <bool GX> static void all(I N, I E, const T* x, const T* y, const T* w, const I* edges,
                                   const T* g, T* gx, T* gy, T* gw, T* gw2, T* xs, T* gs, int threads) {
"""
    + _EDGE_LISTS
    + """\
  (void)perm_r; (void)ptr_r; (void)snd;
  const std::vector<T> zeros(NW + 16, T(0));
  #pragma omp parallel num_threads(threads)
  {
    #pragma omp for schedule(static)
    for (I n = 0; n < N; ++n) { rows1(x + n * D1, xs + n * D1); rows3(g + n * D3, gs + n * D3); }
    std::vector<T> sums(D1 + 16);
    T m[NM], *o = sums.data();
    #pragma omp for schedule(dynamic, 4)
    for (I n = 0; n < N; ++n) {
      memset(o, 0, D1 * sizeof(T));
      for (I k = ptr_s[n]; k < ptr_s[n + 1]; ++k) {
        const I e = perm_s[k];
        forms(y + e * D2, m);
        memset(gy + e * D2, 0, D2 * sizeof(T));
        T* to = (own[e] || !gw2 ? gw : gw2) + row[e] * NW;
        edge<GX>(xs + n * D1, w + row[e] * NW, gs + rcv[e] * D3, o,
                 own[e] || gw2 ? zeros.data() : to, to, m, gy + e * D2);
      }
      if (GX) back1(o, gx + n * D1);
    }
  }
}

extern "C" void backward(I N, I E, const T* x, const T* y, const T* w, const I* edges, const T* g,
                         T* gx, T* gy, T* gw, T* gw2, T* xs, T* gs, int threads) {
  if (gx) all<true>(N, E, x, y, w, edges, g, gx, gy, gw, gw2, xs, gs, threads);
  else all<false>(N, E, x, y, w, edges, g, gx, gy, gw, gw2, xs, gs, threads);
}
"""
)
