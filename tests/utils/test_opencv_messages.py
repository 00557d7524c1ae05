"""OpenCV is silent within a block and as before behind it, also where threads overlap."""

from __future__ import annotations

import os
import threading

import cv2
import pytest

from utils.opencv_messages import quiet_opencv

LEVEL = cv2.utils.logging.getLogLevel
SILENT = cv2.utils.logging.LOG_LEVEL_SILENT


@pytest.fixture(autouse=True)
def loud():
    """A level that is not silence, put back afterwards."""
    before = LEVEL()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    yield
    cv2.utils.logging.setLogLevel(before)


def test_blocks_within_blocks_and_failures():
    with pytest.raises(ValueError, match="inside"), quiet_opencv():
        with quiet_opencv():
            assert LEVEL() == SILENT
        assert LEVEL() == SILENT
        raise ValueError("inside")
    assert LEVEL() == cv2.utils.logging.LOG_LEVEL_ERROR


def test_the_last_of_overlapping_threads_brings_the_level_back():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with quiet_opencv():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with quiet_opencv():
        thread.start()
        assert inside.wait(20)
    assert LEVEL() == SILENT, "the other thread is still inside"
    leave.set()
    thread.join()
    assert LEVEL() == cv2.utils.logging.LOG_LEVEL_ERROR


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_forked_process_begins_anew():
    with quiet_opencv():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                anew = LEVEL() == cv2.utils.logging.LOG_LEVEL_ERROR
                with quiet_opencv():
                    anew = anew and LEVEL() == SILENT
                code = 0 if anew and LEVEL() == cv2.utils.logging.LOG_LEVEL_ERROR else 1
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
