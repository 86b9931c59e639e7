"""The book's images: Fashion-MNIST (a sample ships with the package) and photographs, as tensors."""

from cvbook.data.fashion import CLASSES, fashion_mnist
from cvbook.data.files import DataError
from cvbook.data.photographs import PHOTOGRAPHS, photograph

__all__ = ["CLASSES", "PHOTOGRAPHS", "DataError", "fashion_mnist", "photograph"]
