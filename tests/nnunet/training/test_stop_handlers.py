"""Handlers of the signals that ask for the end, in one process and in forked ones."""

import os
import signal
import subprocess
import sys
import textwrap

from nnunet_xlstm.nnunet.training.stop_signals import StopSignals


def test_stop_signal_is_noted_once_and_the_second_one_kills():
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_forked_workers_still_end_on_sigterm():
    script = """
        import os, signal, time
        from nnunet_xlstm.nnunet.training.stop_signals import StopSignals
        signals = StopSignals(); signals.install()
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.5)  # Python drops signals that come while it forks
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signals.received)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [str(-signal.SIGTERM), "None"]
