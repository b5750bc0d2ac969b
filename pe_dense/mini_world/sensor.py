"""The 8-bit picture that a camera makes of light: haze, blur, vignette, gain, gamma and noise.

Shape legend: H W pixels.
"""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pe_dense.mini_world.scene import Light

FloatArray = NDArray[Any]  # float32


def expose(
    image_HW3: FloatArray, depth_m_HW: FloatArray, light: Light, rng: Generator
) -> NDArray[np.uint8]:
    """Returns the 8-bit picture that the sensor gives: haze, blur, vignette, gain, gamma, noise."""
    far_HW = np.where(depth_m_HW > 0, depth_m_HW, np.float32(10.0)) / 10.0
    haze_HW1 = (np.float32(light.haze) * far_HW * far_HW)[..., None]
    image_HW3 = image_HW3 * (1.0 - haze_HW1) + 0.7 * haze_HW1
    side = np.float32(light.blur)
    blurred_HW3 = (1 - 2 * side) * image_HW3  # the outermost pixels stay as they are
    blurred_HW3[1:-1] += side * (image_HW3[:-2] + image_HW3[2:])
    image_HW3[1:-1, 1:-1] = (1 - 2 * side) * blurred_HW3[1:-1, 1:-1] + side * (
        blurred_HW3[1:-1, :-2] + blurred_HW3[1:-1, 2:]
    )
    position = np.linspace(-1.0, 1.0, len(image_HW3), dtype=np.float32)
    edge_HW = position[:, None] ** 2 + position[None, :] ** 2
    image_HW3 *= (1.0 - 0.5 * np.float32(light.vignette) * edge_HW)[..., None]
    image_HW3 *= 4095 * np.array(light.gain_rgb, np.float32)
    curve = 255.0 * np.linspace(0.0, 1.0, 4096, dtype=np.float32) ** np.float32(light.gamma)
    image_HW3 = curve[np.clip(image_HW3, 0, 4095).astype(np.int16)]
    noise_HW3 = rng.standard_normal(image_HW3.shape, dtype=np.float32)
    image_HW3 += np.float32(255.0 * light.noise) * noise_HW3
    picture: NDArray[np.uint8] = np.clip(np.rint(image_HW3), 0, 255).astype(np.uint8)
    return picture
