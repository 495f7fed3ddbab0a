"""C++ for linear maps of irreps: a matrix product that reads and writes rows where they lie.

A row of the product is one component of one atom. Its numbers are broadcast; columns of the weights
are the lanes of vector registers. One program serves all shapes.
"""

from __future__ import annotations

from irprune.kernels.cpu.source import prelude

CODE = """\
// K copies in, M copies out, of dim components; first column of x, of the result
struct Group { I K, M, dim, in, out; };
static const int R = 6, C = 2;  // a tile: R rows, C vectors of columns; it fills the registers
static const I BLOCK = 384;     // rows that share a packed panel

// a [r][c vectors] = Σ over k of p[row][k * dim] b [k][c vectors]
template <int r, int c> static void tile(const T* const* p, I K, I dim, const T* b, T* a) {
  W s[r][c];
  #pragma GCC unroll 6
  for (int q = 0; q < r; ++q) {
    #pragma GCC unroll 2
    for (int v = 0; v < c; ++v) s[q][v] = W{};
  }
  for (I k = 0; k < K; ++k, b += c * L) {
    W w[c];
    #pragma GCC unroll 2
    for (int v = 0; v < c; ++v) w[v] = ld<W>(b + v * L);
    #pragma GCC unroll 6
    for (int q = 0; q < r; ++q) {
      const T x = p[q][k * dim];
      #pragma GCC unroll 2
      for (int v = 0; v < c; ++v) s[q][v] += x * w[v];
    }
  }
  #pragma GCC unroll 6
  for (int q = 0; q < r; ++q) {
    #pragma GCC unroll 2
    for (int v = 0; v < c; ++v) st(a + (q * c + v) * L, s[q][v]);
  }
}
template <int c> static void tiles(int r, const T* const* p, I K, I dim, const T* b, T* a) {
  switch (r) {
    case 1: return tile<1, c>(p, K, dim, b, a);
    case 2: return tile<2, c>(p, K, dim, b, a);
    case 3: return tile<3, c>(p, K, dim, b, a);
    case 4: return tile<4, c>(p, K, dim, b, a);
    case 5: return tile<5, c>(p, K, dim, b, a);
    default: return tile<6, c>(p, K, dim, b, a);
  }
}
// what one thread does at a time: columns of one group, for atoms [from, to)
struct Item { I group, from, to, column, width; };
static std::vector<Item> items(I n, I groups, const Group* group, int* threads) {
  std::vector<Item> out;
  double work = 0;
  for (I g = groups - 1; g >= 0; --g) {
    const I parts = (n * group[g].dim + BLOCK - 1) / BLOCK;
    const I M = group[g].M, step = parts ? (n + parts - 1) / parts : 1;
    for (I from = 0; from < n; from += step)
      for (I j = 0; j < M; j += C * L)
        out.push_back({g, from, from + step < n ? from + step : n, j, M - j < C * L ? M - j : C * L});
    work += (double)n * group[g].dim * group[g].K * M;
  }
  if (work < 1e5) *threads = 1;
  return out;
}
// b [K][c vectors] from w [K, M], or from w [M, K]; zeros beyond the columns that there are
template <int c> static void pack(const Group& g, const Item& q, bool transposed, const T* w, T* b) {
  if (q.width < c * L) memset(b, 0, g.K * c * L * sizeof(T));
  for (I k = 0; k < g.K; ++k, b += c * L) {
    if (transposed) for (I u = 0; u < q.width; ++u) b[u] = w[(q.column + u) * g.K + k];
    else memcpy(b, w + k * g.M + q.column, q.width * sizeof(T));
  }
}
template <int c> static void product(const Group& g, const Item& q, bool transposed, const T* w,
                                     const T* x, I xs, T* out, I os, T* b) {
  const T* p[R]; T* o[R]; T a[R * C * L];
  pack<c>(g, q, transposed, w, b);
  for (I n = q.from, m = 0; n < q.to;) {
    int r = 0;
    for (; r < R && n < q.to; ++r) {
      p[r] = x + n * xs + g.in + m;
      o[r] = out + n * os + g.out + q.column * g.dim + m;
      if (++m == g.dim) m = 0, ++n;
    }
    tiles<c>(r, p, g.K, g.dim, b, a);
    for (int i = 0; i < r; ++i) {
      const T* s = a + i * c * L;
      if (g.dim == 1) for (I u = 0; u < q.width; ++u) o[i][u] = s[u];
      else for (I u = 0; u < q.width; ++u) o[i][u * g.dim] = s[u];
    }
  }
}
// x [n, xs] times the weights of each group; columns of out that no group has are left alone
extern "C" void linear(I n, I xs, I os, I groups, I transposed, const Group* group,
                       const T* const* w, const T* x, T* out, int threads) {
  const auto todo = items(n, groups, group, &threads);
  I most = 0;
  for (I g = 0; g < groups; ++g) if (group[g].K > most) most = group[g].K;
  #pragma omp parallel num_threads(threads)
  {
    std::vector<T> b(most * C * L);
    #pragma omp for schedule(dynamic)
    for (I i = 0; i < (I)todo.size(); ++i) {
      const Item& q = todo[i];
      const Group& g = group[q.group];
      (q.width > L ? product<C> : product<1>)(g, q, transposed, w[q.group], x, xs, out, os, b.data());
    }
  }
}
"""


def source(real: str) -> str:
    """The program ``linear``, of a map and of its transpose."""
    return "\n".join([prelude(real), CODE])
