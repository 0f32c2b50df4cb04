"""`python -m piip`, and with it `torchrun -m piip` and `accelerate launch -m piip`."""

from piip.cli.main import main

main()
