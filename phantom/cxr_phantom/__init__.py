"""Synthetic chest radiographs (phantoms) with exact masks, and the small model trained on them.

Phantoms test the service; they say nothing about patients. Data flow:

    canvas -> anatomy -> body, bones -> findings, shapes -> film -> draw    seed -> pixels and masks
    draw -> samples                                                         PNG files
    draw -> dataset -> network, train -> metrics -> retrain -> pack         the shipped bundle
"""
