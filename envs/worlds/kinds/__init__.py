"""The worlds of each kind of family: MuJoCo models of ours, dm_control's suite, environments of gymnasium's.

They are stepped in slots as protocol.py has it; who wants them asks of_family.py.
"""
