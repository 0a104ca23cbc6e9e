"""Digests of decoded images and label maps of NuInsSeg's release, as far as this project has seen the files.

Of 665 images these are 23 of human spleen, and the label maps of two more of human bladder (see
`registry.release.content_digest`). To add others: read them, and write their digests here.
"""

from __future__ import annotations

from types import MappingProxyType

CONTENT = MappingProxyType(
    {
        "human_bladder_01": (None, "3c3f525564f0c2395198060e666ac991"),
        "human_bladder_02": (None, "4b8ea98e6859097fa2d38a54691287bc"),
        "human_spleen_01": ("22586d4ea3e4fbdfeda0cb43b76a94e3", "9da6178434acc8463acd1437aa1bc1b1"),
        "human_spleen_03": ("804a73b91884be43e58d8cf3a6d21a6b", "5e49168ed7f6a13a40e497655aaa345e"),
        "human_spleen_04": ("611d9987c7121b326bcd2df6be0ca86e", "dd1bb96029f80746be8324fcc19a7430"),
        "human_spleen_06": ("0bff536516e390a0df2cec09721dad4f", "ac86e7f6e1258b2abcedfc4e65a5ab18"),
        "human_spleen_09": ("a754ad981fe055af5958c251e1acf6e3", "c2c37f19276c551d7a46c0bb9392c33d"),
        "human_spleen_11": ("2c7a122cd984cea7748bd2387c7d2d90", "7857294aac7050946967addd1ba31c7f"),
        "human_spleen_13": ("bbdbd842f6c42a6ad948881571d63984", "cdcf5598d54f0459e160153663e9ca83"),
        "human_spleen_14": ("f539d424499180ac0586db2c6fd5d66c", "a87afdb4f3e605ce9888a7c61238ccb7"),
        "human_spleen_15": ("47f18e09414809f1246272dbe48518fd", "9f83d14f59ff885593e59b03e8dc7e1d"),
        "human_spleen_16": ("01a0b7f37c217f6fc28532360384ded1", "01d3588454aacb973c68564d8e59327d"),
        "human_spleen_18": ("a008a14afec7b926642c60cf40ce9838", "a848163cf8244deb24764e8dd5dc7b99"),
        "human_spleen_19": ("ef20eafca7d2ae8ca1ec519ad8dc4bc8", "3ae01b2b5025574c8d3fc818eafa6167"),
        "human_spleen_21": ("f92eb5b583b362c33e36a00dc047ed5c", "2a4831ccf12516bd0a271a127175e3e5"),
        "human_spleen_22": ("2c56e23a7cdbd7bd476c0f565d82b2e8", "602919f8d667f5fa23f82abbfde67020"),
        "human_spleen_23": ("810994b502389c23a2e7b55f82cc6865", "6e6044f6dbdf0de80a22fbbbb26e1a53"),
        "human_spleen_24": ("7d8eb7154c4093eb860aa59638b615db", "6f97c54edb80e5466c7f6b0edc6c1b3d"),
        "human_spleen_25": ("cfd5b1986d0c42168479d13b029e79b7", "92486d03d308457b9ca001b99c9028cd"),
        "human_spleen_26": ("20098f73a8b021b1bf96b68d66b572db", "750b38a804e7595940300db58949c6e8"),
        "human_spleen_27": ("f9eecbaad9ac8f7dc008da7f1d5c1a61", "f3ea44c0ecc67fab1c9838c11452a7e2"),
        "human_spleen_29": ("7096897bcc598dc37f443905080dedc8", "da234518e58cfc7fd42a992996ba9f7b"),
        "human_spleen_30": ("8ba05a2decf4ecf9c293f1b0b7d61d6e", "b87f2307cf4efb7a531ec724dad0190c"),
        "human_spleen_32": ("a8264e6c1f3734813bc1c093bab0a81e", "7862ed6c9f8994bb13f8c45a4c717e80"),
        "human_spleen_33": ("212a542275b340e6073b2f3e7dc01a26", "4e00c3f15c9a70b6654338d4e8cb8aec"),
    }
)
"""Stem → digest of the image (None where only the label map was seen) and of the label map."""
