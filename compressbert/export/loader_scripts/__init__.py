"""Programs that open an artefact in one loader each. They run in that loader's environment and import nothing of ours.

Called as ``SCRIPT ARTEFACT INPUTS OUTPUTS [OPTIONS]``. INPUTS is a safetensors file with the tensors
``0000.input_ids``, ``0000.attention_mask``, …, one number per batch, and in its metadata ``texts``: a JSON list
of ``[text]`` or ``[text, second text]``. OUTPUTS is a safetensors file with every output of every batch
(``0000.logits``), the token ids of text ``k`` under ``text.000k`` if the loader brings a tokenizer, and in its
metadata ``version``: what ran. A failure is an exception: the caller shows the end of stderr.
"""
