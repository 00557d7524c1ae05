"""Pictures of what transformers with detection tokens do: ``python -m utils.explain attention | tokens``.

``attention`` shows which parts of a picture the tokens look at, ``tokens`` what each token finds over a whole data set.
"""
