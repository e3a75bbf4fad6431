"""What holds for all tests: none fails because the machine is busy, or because a shell runs them in the background."""

import signal

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for jobs that a shell has sent to the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children of tests are to hear it
