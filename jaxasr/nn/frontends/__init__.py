"""Waveform, or features that are given, to feature frames; on the device."""

from jaxasr.nn.frontends.base import FRONTENDS as FRONTENDS
from jaxasr.nn.frontends.base import Frames as Frames
from jaxasr.nn.frontends.base import Frontend as Frontend
from jaxasr.nn.frontends.given import GivenFeatures as GivenFeatures
from jaxasr.nn.frontends.kaldi import WavFrontend as WavFrontend
from jaxasr.nn.frontends.sliding_window import SlidingWindow as SlidingWindow
from jaxasr.nn.frontends.stacking import StackingFrontend as StackingFrontend
from jaxasr.nn.frontends.stft import StftFrontend as StftFrontend
