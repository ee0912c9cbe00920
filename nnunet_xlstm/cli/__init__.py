"""The command nnunet_xlstm."""
