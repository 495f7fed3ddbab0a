"""C++ for tables of piecewise polynomials: rows of values or slopes, and their products with rows.

Distances are taken in the order of their intervals, so that a row of coefficients is read once for
all distances that need it.
"""

from __future__ import annotations

import math

from irprune.kernels.cpu.source import prelude

CODE = """\
struct Place { I row; T t; T inverse; };
// pieces: start, stop, intervals; first[s] is the number of intervals before piece s
static inline Place place(double r, I pieces, const double* piece) {
  I s = 0, first = 0;
  while (s + 1 < pieces && r >= piece[3 * s + 1]) first += (I)piece[3 * s + 2], ++s;
  const double count = piece[3 * s + 2];
  const double inverse = count / (piece[3 * s + 1] - piece[3 * s]);
  const double u = (r - piece[3 * s]) * inverse;
  I i = u > 0 ? (I)u : 0;
  if (i >= (I)count) i = (I)count - 1;
  return {first + i, (T)(u - i), (T)inverse};
}
// the factors of c[ORDER] ... c[DEGREE] in the ORDER-th derivative
static inline void factors(const Place& p, T* f) {
  T power = 1;
  for (I k = 0; k < ORDER; ++k) power *= p.inverse;
  for (I k = ORDER; k <= DEGREE; ++k, power *= p.t) f[k] = FALL[k] * power;
}
static std::vector<I> sorted(I n, const std::vector<Place>& places, I rows) {
  std::vector<I> start(rows + 1, 0), order(n);
  for (I p = 0; p < n; ++p) ++start[places[p].row + 1];
  for (I i = 0; i < rows; ++i) start[i + 1] += start[i];
  for (I p = 0; p < n; ++p) order[start[places[p].row]++] = p;
  return order;
}
static std::vector<Place> locate(I n, const T* r, const I* which, I per, I pieces,
                                 const double* piece) {
  std::vector<Place> places(n);
  for (I p = 0; p < n; ++p) {
    places[p] = place(r[p], pieces, piece);
    if (which) places[p].row += which[p] * per;
  }
  return places;
}
template <class A> static inline A value(const T* c, const T* f, I w, I width) {
  A out = f[ORDER] * ld<A>(c + ORDER * width + w);
  for (I k = ORDER + 1; k <= DEGREE; ++k) out += f[k] * ld<A>(c + k * width + w);
  return out;
}
// calls f(row of the result, coefficients, factors) for every distance, interval by interval
template <class F> static inline void each(I n, I width, I per, I tables, I pieces,
    const double* piece, const T* r, const I* which, const T* table, int threads, F f) {
  const auto places = locate(n, r, which, per, pieces, piece);
  const auto order = sorted(n, places, per * tables);
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (I q = 0; q < n; ++q) {
    const Place& p = places[order[q]];
    T a[DEGREE + 1];
    factors(p, a);
    f(order[q], table + p.row * (DEGREE + 1) * width, a);
  }
}
extern "C" void rows(I n, I width, I per, I tables, I pieces, const double* piece, const T* r,
                     const I* which, const T* table, T* out, int threads) {
  each(n, width, per, tables, pieces, piece, r, which, table, threads,
       [=](I p, const T* c, const T* f) {
    T* o = out + p * width;
    I w = 0;
    for (; w + L <= width; w += L) st(o + w, value<W>(c, f, w, width));
    for (; w < width; ++w) o[w] = value<T>(c, f, w, width);
  });
}
extern "C" void dot(I n, I width, I per, I tables, I pieces, const double* piece, const T* r,
                    const I* which, const T* table, const T* g, T* out, int threads) {
  each(n, width, per, tables, pieces, piece, r, which, table, threads,
       [=](I p, const T* c, const T* f) {
    const T* a = g + p * width;
    W wide = {};
    I w = 0;
    for (; w + L <= width; w += L) wide += ld<W>(a + w) * value<W>(c, f, w, width);
    T one = sum(wide);
    for (; w < width; ++w) one += a[w] * value<T>(c, f, w, width);
    out[p] = one;
  });
}
"""


def source(degree: int, order: int, real: str) -> str:
    """The programs of the derivatives of one order, ``rows`` and ``dot``."""
    fall = [float(math.perm(k, order)) for k in range(degree + 1)]
    return "\n".join(
        [
            prelude(real),
            f"static const I DEGREE = {degree}, ORDER = {order};",
            f"static const T FALL[] = {{{', '.join(map(repr, fall))}}};",
            CODE,
        ]
    )
