"""The verbs: a public function a file. Their keyword-only signatures are where options live."""
