from omg_lightning.cli import main

main()
