"""The processes of one run, as torchrun starts them: what each has of it, and how they speak to each other.

torch.distributed is known here and nowhere else; a run of one process has a stand-in that costs nothing.
"""
