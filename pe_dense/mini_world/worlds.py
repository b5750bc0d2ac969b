"""The versions of the mini world: each draws pictures of its own, and knows the names in them."""

from collections.abc import Callable
from dataclasses import dataclass

from pe_dense.mini_world import courtyard, courtyard_scene, scene, world
from pe_dense.mini_world.render import Frame


@dataclass(frozen=True)
class World:
    """One version.

    Attributes:
        generator_version: As the manifest has it; the same for the same pictures.
        thing_names: Class i + 1 of objects.
        stuff_names: Parts of the backdrop, label i + 1 of a semantic map.
        far_from_m: Where a caption begins to call objects far.
        make_image: (seed, split, index, image_size) -> a still picture.
        make_clip: (seed, split, index, image_size, num_frames) -> a clip.
    """

    generator_version: str
    thing_names: tuple[str, ...]
    stuff_names: tuple[str, ...]
    far_from_m: float
    make_image: Callable[[int, str, int, int], Frame]
    make_clip: Callable[[int, str, int, int, int], list[Frame]]

    @property
    def semantic_names(self) -> tuple[str, ...]:
        """Label i + 1 of a semantic map; 0 is 'other'."""
        return self.stuff_names + self.thing_names


WORLDS = {
    1: World(
        world.GENERATOR_VERSION,
        scene.THING_NAMES,
        scene.STUFF_NAMES,
        5.0,
        world.make_image,
        world.make_clip,
    ),
    2: World(
        courtyard.GENERATOR_VERSION,
        courtyard_scene.THING_NAMES,
        scene.STUFF_NAMES,
        2.8,
        courtyard.make_image,
        courtyard.make_clip,
    ),
}


def world_of(version: int) -> World:
    """A version of the mini world.

    Raises:
        ValueError: If there is none of that number.
    """
    if version not in WORLDS:
        numbers = " or ".join(str(number) for number in WORLDS)
        raise ValueError(f"there is no mini world {version}; use {numbers}")
    return WORLDS[version]
