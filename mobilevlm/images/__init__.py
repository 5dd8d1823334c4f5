"""Reading of images: what is no image is named, work is bounded before anything is decoded, colours become sRGB."""
