"""What all generated C++ shares: vector types, loads, and the transposition of a row."""

from __future__ import annotations

from collections.abc import Sequence

from irprune.irreps import Segment

PRELUDE = """\
#include <cstdint>
#include <cstring>
#include <vector>
typedef int64_t I;
typedef REAL T;
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef T V __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
typedef T W __attribute__((vector_size(BYTES)));
static const I L = BYTES / sizeof(T);
template <class A> static inline A ld(const T* p);
template <> inline T ld<T>(const T* p) { return *p; }
template <> inline W ld<W>(const T* p) { return (W) * (const V*)p; }
static inline void st(T* p, T v) { *p = v; }
static inline void st(T* p, W v) { *(V*)p = (V)v; }
static inline T sum(T v) { return v; }
static inline T sum(W v) { T s = 0; for (I i = 0; i < L; ++i) s += v[i]; return s; }
// [mul][dim] <-> [dim][mul]
static inline void apart(const T* a, T* b, I mul, I dim) {
  for (I m = 0; m < dim; ++m) for (I u = 0; u < mul; ++u) b[m * mul + u] = a[u * dim + m];
}
static inline void together(const T* a, T* b, I mul, I dim) {
  for (I m = 0; m < dim; ++m) for (I u = 0; u < mul; ++u) b[u * dim + m] = a[m * mul + u];
}
"""


def prelude(real: str) -> str:
    """The shared head for ``float`` or ``double``."""
    return PRELUDE.replace("REAL", real)


def transposition(name: str, segments: Sequence[Segment], inverse: bool = False) -> str:
    """A function that takes a flat ``mul_ir`` row apart into components, or puts it together."""
    lines, at = [], 0
    word = "together" if inverse else "apart"
    for s in segments:
        if s.l == 0:
            lines.append(f"  memcpy(b + {at}, a + {at}, {s.mul} * sizeof(T));")
        else:
            lines.append(f"  {word}(a + {at}, b + {at}, {s.mul}, {s.dim});")
        at += s.mul * s.dim
    return "\n".join([f"static void {name}(const T* a, T* b) {{", *lines, "}", ""])


def number(x: float) -> str:
    """A literal that reads back as the same float64."""
    return f"T({x!r})"
