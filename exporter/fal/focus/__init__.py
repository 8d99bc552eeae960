"""FOCUS reports of fal, on top of the format in `exporter.focus`.

Lives here: what may be asked (`request`), the download as typed rows (`report`), and what is made of them: hourly usage
(`usage`) and monthly bills (`bill`). Begin reading at `report`.
"""
