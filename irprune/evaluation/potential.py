"""Potential: a model of atomic energies, evaluated to energies, forces and stress."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from ase import Atoms
from torch import Tensor, nn

from irprune.atomistic import Atomistic
from irprune.compiling.compiled import Compiled
from irprune.data.batch import Batch, collate
from irprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about a batch of B structures with N atoms."""

    energy: Tensor
    """[B] eV."""
    energies: Tensor
    """[N] eV, atomic energies."""
    forces: Tensor | None = None
    """[N, 3] eV/Å."""
    stress: Tensor | None = None
    """[B, 3, 3] eV/Å³, symmetric, ASE's sign: (dE/dε) / V. Zero where a structure has no volume."""
    force_slopes: Tensor | None = None
    """[N, 3] eV/Å², derivative of the forces along the direction that was asked for: −Hessian · v."""

    def detach(self) -> Prediction:
        """The same values without their autograd graph."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.detach() for k, v in values.items() if v is not None})


class Potential:
    """A module and the atoms it is for; the module is used as it is, not copied.

    The model depends on positions only through its edge vectors r_e, so with g_e = ∂E/∂r_e
    (one backward pass): force on atom i = Σ g over edges that start at i − Σ g over edges that end
    there, and the derivative by a symmetric strain ε, r → r(1 + ε), is the symmetric part of
    Σ r ⊗ g (Thompson, Plimpton, Mattson, J. Chem. Phys. 131, 154107 (2009)).
    """

    def __init__(self, module: nn.Module, atomistic: Atomistic, head: str | None = None) -> None:
        """
        Raises:
            UsageError: ``head`` is not one of the model's.
        """
        atomistic.head_index(head)
        self.module = module
        self.atomistic = atomistic
        self.head = head

    @property
    def dtype(self) -> torch.dtype:
        """Float dtype of the module's first parameter or buffer, else that of the checkpoint."""
        tensor = self._float_tensor()
        return tensor.dtype if tensor is not None else getattr(torch, self.atomistic.dtype)

    @property
    def device(self) -> torch.device:
        tensor = self._float_tensor()
        return tensor.device if tensor is not None else torch.device("cpu")

    def _float_tensor(self) -> Tensor | None:
        for tensors in (self.module.parameters(), self.module.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point():
                    return tensor
        return None

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Potential:
        """A deep copy in another dtype or on another device; this one stays as it is."""
        module = copy.deepcopy(self.module).to(device=device, dtype=dtype)
        return Potential(module, self.atomistic, self.head)

    def collate(self, frames: Sequence[Atoms]) -> Batch:
        """``frames`` as a batch in this model's dtype, device and head."""
        return collate(frames, self.atomistic, self.dtype, self.device, self.head)

    def evaluate(
        self,
        batch: Batch,
        forces: bool = True,
        stress: bool = False,
        create_graph: bool = False,
        along: Tensor | None = None,
    ) -> Prediction:
        """Energies and, if asked for, forces and stress.

        Args:
            batch: structures, in the dtype and on the device of the module.
            forces: compute forces (one backward pass).
            stress: compute the stress (the same pass).
            create_graph: keep the autograd graph, so that the results (forces too) can be
                differentiated by parameters or positions. Without it they are detached. A
                compiled module then runs as it was before: what is compiled has no second
                derivative.
            along: v [N, 3], dimensionless; compute also the derivative of the forces when atoms
                move along it (one more backward pass).

        Raises:
            UsageError: the module returns another shape, or energies without a gradient.
        """
        forces = forces or along is not None
        derivatives, again = forces or stress, create_graph or along is not None
        with torch.set_grad_enabled(derivatives or create_graph):
            vectors = batch.edge_vectors()
            if derivatives and not vectors.requires_grad:
                vectors.requires_grad_(True)
            inputs = (vectors, batch.species, batch.edge_index, batch.head)
            compiled = None
            if derivatives and not again and isinstance(self.module, Compiled):
                compiled = self.module.with_gradient(*inputs)
            energies = self.module(*inputs) if compiled is None else compiled[0]
            if energies.shape != batch.species.shape:
                raise UsageError(
                    f"the model returned atomic energies of shape {tuple(energies.shape)},"
                    f" expected one per atom, {tuple(batch.species.shape)}"
                )
            energy = energies.new_zeros(len(batch)).index_add(0, batch.batch, energies)
            out = Prediction(energy, energies)
            if derivatives:
                gradient = _gradient(energies, vectors, again) if compiled is None else compiled[1]
                if forces:
                    out = replace(out, forces=_forces(gradient, batch))
                if stress:
                    out = replace(out, stress=_stress(gradient, vectors, batch))
                if along is not None:
                    assert out.forces is not None
                    # the Hessian is symmetric: ∂(v·F)/∂x is the derivative of F along v
                    slope = _gradient((along * out.forces).sum()[None], vectors, create_graph)
                    out = replace(out, force_slopes=-_forces(slope, batch))
        return out if create_graph else out.detach()


def _gradient(energies: Tensor, vectors: Tensor, create_graph: bool) -> Tensor:
    """∂E/∂r_e [E, 3] eV/Å; zeros if there are no edges."""
    if vectors.shape[0] == 0:
        return torch.zeros_like(vectors)
    if not energies.requires_grad:
        raise UsageError(
            "the model's energies carry no gradient, so it has no forces; it must not detach its"
            " result or run under torch.no_grad"
        )
    (gradient,) = torch.autograd.grad(
        energies.sum(), vectors, create_graph=create_graph, allow_unused=True
    )
    return torch.zeros_like(vectors) if gradient is None else gradient


def _forces(gradient: Tensor, batch: Batch) -> Tensor:
    zero = torch.zeros_like(batch.positions)
    first, second = batch.edge_index[0], batch.edge_index[1]
    return zero.index_add(0, first, gradient) - zero.index_add(0, second, gradient)


def _stress(gradient: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
    per_edge = vectors.unsqueeze(2) * gradient.unsqueeze(1)
    virial = torch.zeros_like(batch.cell).index_add(0, batch.edge_batch, per_edge)
    virial = 0.5 * (virial + virial.transpose(1, 2))
    volume = batch.volume[:, None, None]
    has_volume = volume > 0
    return torch.where(has_volume, virial / torch.where(has_volume, volume, 1.0), 0.0)
