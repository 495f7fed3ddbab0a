"""The suite. Tests import e3nn directly, which needs this first."""

from irprune.compat import prepare_e3nn

prepare_e3nn()
