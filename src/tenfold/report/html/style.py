"""How pages look: on a wide and a narrow screen, in the dark, and in print."""

LIGHT = {
    "ground": "#ffffff",
    "raised": "#f4f5f6",
    "ink": "#1a1c1e",
    "muted": "#575c61",
    "line": "#d4d7da",
    "before": "#909498",
    "after": "#0072b2",
    "second": "#00815d",
    "third": "#a8518a",
    "chosen": "#b84c00",
}
DARK = {
    "ground": "#15181b",
    "raised": "#1f2428",
    "ink": "#e8eaec",
    "muted": "#aab0b6",
    "line": "#3a4046",
    "before": "#868d94",
    "after": "#56b4e9",
    "second": "#2fc79c",
    "third": "#d98fb9",
    "chosen": "#f0a22e",
}

RULES = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1rem;background:var(--ground);color:var(--ink);
 font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:.95rem;margin:0 0 .2rem}
p,ul{margin:.4rem 0}ul{padding-left:1.2rem}
.muted,figcaption,.card p:last-child{color:var(--muted);font-size:.87rem}
bdi,pre,p,li,figcaption,td.text{overflow-wrap:anywhere}
.tiles,.plots,.cards{display:grid;gap:.8rem}
.tiles{grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));margin:1rem 0}
.plots{grid-template-columns:repeat(auto-fill,minmax(min(21rem,100%),1fr))}
.cards{grid-template-columns:repeat(auto-fill,minmax(min(16.5rem,100%),1fr))}
.tile,.card{background:var(--raised);border-radius:.4rem;padding:.7rem .8rem;break-inside:avoid}
.tile b{display:block;font-size:1.5rem;line-height:1.25;color:var(--after)}
.tile.worse b{color:var(--chosen)}
figure{margin:0;break-inside:avoid;max-width:26rem}
.wide+figure{margin-top:.8rem}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--muted);font:11px system-ui,sans-serif}
svg .label{fill:var(--ink)}
.x{text-anchor:middle}.y,.end{text-anchor:end}
path{fill:none;stroke-width:1.8;stroke:var(--after)}
path.grid{stroke:var(--line);stroke-width:1}
path.second{stroke:var(--second);stroke-dasharray:6 3}path.third{stroke:var(--third);stroke-dasharray:2 3}
path.quiet{stroke:var(--before);stroke-dasharray:3 3;stroke-width:1.2}
circle{fill:var(--after);stroke:var(--ground);stroke-width:1}
circle.beaten{fill:var(--ground);stroke:var(--before);stroke-width:2}
.chosen{fill:var(--chosen);stroke:var(--raised)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.87rem}
th,td{text-align:right;white-space:nowrap;padding:.25rem .5rem;vertical-align:top;border-bottom:1px solid var(--line)}
th:first-child,td:first-child,td.text,th.text{text-align:left;white-space:normal}
.wide th{white-space:normal;min-width:6rem;max-width:14rem}.wide bdi{overflow-wrap:break-word}
thead th{color:var(--muted);font-weight:600;vertical-align:bottom}
tbody th{font-weight:400}
tr{break-inside:avoid}
.bars{table-layout:fixed}.bars th,.bars td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.bars i{display:block;height:.6rem;margin-top:.15rem;print-color-adjust:exact;-webkit-print-color-adjust:exact;
 background:linear-gradient(var(--after) 0 0) 0 50%/var(--now) 50% no-repeat,
 linear-gradient(var(--before) 0 0) 0 0/var(--was) 100% no-repeat}
pre{white-space:pre-wrap;background:var(--raised);border-radius:.4rem;padding:.7rem .8rem;font-size:.85rem}
summary{cursor:pointer;color:var(--muted);font-size:.87rem;margin-top:.5rem}
@media (max-width:40rem){
 .wide table{font-size:.78rem}.wide th,.wide td{padding:.2rem}.wide th{min-width:0}
 .bars,.bars tbody,.bars tr,.bars th,.bars td{display:block;width:auto!important;text-align:left;border:0;padding:0}
 .bars thead{display:none}.bars tr{border-bottom:1px solid var(--line);padding:.5rem 0}
 .bars th{font-weight:600}.bars th,.bars td:nth-child(2){display:inline;margin-right:.6rem}
 .bars td::before{color:var(--muted)}
 .bars td:nth-child(3)::before{content:var(--name3)}
 .bars td:nth-child(4)::before{content:var(--name4)}
 .bars td:nth-child(5)::before{content:var(--name5)}
 .bars td:nth-child(6)::before{content:var(--name6)}
}
@media print{
 body{max-width:none;padding:0;font-size:10pt}h2{break-after:avoid}.tile,.card,pre{border:1px solid var(--line)}
 .cards{grid-template-columns:repeat(3,1fr)}.plots{grid-template-columns:repeat(2,1fr)}
}
"""


def variables(colours: dict[str, str]) -> str:
    """Colours by name, as CSS."""
    return ":root{" + "".join(f"--{name}:{colour};" for name, colour in colours.items()) + "}"


def style() -> str:
    """All of it; paper is never dark."""
    return f"{variables(LIGHT)}@media screen and (prefers-color-scheme:dark){{{variables(DARK)}}}{RULES}"
