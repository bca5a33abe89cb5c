"""A stand-in for the package `spaces` on a ZeroGPU Space, by what version 0.51 of it does.

Outside a call torch claims to have a GPU, and whatever touches it fails; so does autograd, whose threads a forked process
would lack. A call runs in a forked process that ends with it. What goes in and comes back is bytes alone; of an error only
its type comes back, unless it is gradio's.
"""

import multiprocessing
import os

import gradio as gr
import torch

MOST = 120  # seconds that are lent at once
FORK = multiprocessing.get_context("fork")
REAL = torch.cuda.is_available, torch._C._cuda_init, torch.autograd.backward


def patch(available, init, backward):
    torch.cuda.is_available, torch._C._cuda_init, torch.autograd.backward = available, init, backward


def refusing():
    def refuse(*_, **__):
        raise RuntimeError("This needs a GPU, and none is lent here.")

    return refuse  # another for each: torch looks its functions up by identity


if os.environ.get("SPACES_ZERO_GPU"):
    patch(lambda: True, refusing(), refusing())


def GPU(duration):
    def decorate(function):
        def lent(*arguments):
            assert all(type(a) in (int, bytes) for a in arguments)
            if (asked := duration(*arguments)) > MOST:
                raise gr.Error(f"The requested GPU duration ({asked}s) is larger than the maximum allowed")
            items, end = FORK.Pipe(duplex=False)

            def work():
                items.close()
                patch(*REAL)
                try:
                    for item in function(*arguments):
                        assert type(item) is bytes
                        end.send(item)
                except Exception as error:
                    end.send(error if isinstance(error, gr.Error) else gr.Error(type(error).__name__))

            process = FORK.Process(target=work, daemon=True)
            process.start()
            end.close()
            try:
                while True:
                    item = items.recv()
                    if isinstance(item, gr.Error):
                        raise item
                    yield item
            except EOFError:
                return
            finally:
                process.kill()
                process.join()
                items.close()

        return lent

    return decorate
