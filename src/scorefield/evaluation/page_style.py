"""The style of pages: readable on a desk and on a phone, in light and in dark surroundings.

Blue is samples, grey is data against data: the colours of `plotting.palette`.
"""

from ..plotting.palette import BLUE, GREEN, GREY, VERMILLION

STYLE = f"""
:root {{
  color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --page: #f6f7f9; --card: #ffffff;
  --sample: {BLUE}; --floor: {GREY}; --good: {GREEN}; --bad: {VERMILLION};
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ink: #e6e9ec; --soft: #a3adb8; --line: #3a424c; --page: #15181c; --card: #1f242a;
    --sample: #4aa8e0; --floor: #6d757e; --good: #2fc08f; --bad: #f08a3c;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}}
main {{ max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }}
h1 {{ font-size: 1.55rem; line-height: 1.25; margin: 0 0 2px; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 36px 0 10px; }}
p {{ margin: 6px 0; max-width: 46rem; }}
.soft, figcaption, caption {{ color: var(--soft); font-size: .875rem; }}
.card {{
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 18px; margin: 14px 0;
}}
.verdict {{ border-left: 6px solid var(--tone); }}
.verdict h2 {{ margin: 0 0 8px; font-size: 1.3rem; color: var(--tone); }}
.verdict dl {{ margin: 0; display: grid; grid-template-columns: 7.5rem 1fr; gap: 8px 14px; }}
.verdict dt {{ color: var(--soft); }}
.verdict dd {{ margin: 0; }}
.good {{ --tone: var(--good); }} .bad {{ --tone: var(--bad); }} .plain {{ --tone: var(--sample); }}
ul.faults {{ margin: 12px 0 0; padding: 10px 0 0 20px; border-top: 1px solid var(--line); }}
.pictures {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px; }}
.pictures .wide {{ grid-column: 1 / -1; }}
figure {{
  margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px;
}}
figure img {{
  display: block; max-width: 100%; height: auto; margin: 0 auto 8px; background: #fff;
  border-radius: 6px;
}}
.scroll, .stack {{ overflow-x: auto; -webkit-overflow-scrolling: touch; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; padding: 0 0 8px; }}
th, td {{
  text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; font-size: .9rem;
}}
th {{ color: var(--soft); font-weight: 600; }}
td.number {{ white-space: nowrap; }}
td.name {{ min-width: 5rem; }}
tr:last-child td {{ border-bottom: 0; }}
.bar {{ display: block; width: 200px; height: 24px; }}
.small .bar {{ width: 120px; }}
.bar .axis {{ stroke: var(--line); }}
.bar .band {{ fill: var(--floor); opacity: .55; }}
.bar .floor {{ stroke: var(--soft); stroke-width: 2; }}
.bar .span {{ stroke: var(--sample); stroke-width: 3; }}
.bar .dot {{ fill: var(--sample); }}
.key {{
  display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin: 0 5px 0 12px;
}}
.key:first-child {{ margin-left: 0; }}
details {{ margin: 10px 0; }}
summary {{ cursor: pointer; }}
.mono {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
dl.record {{
  display: grid; grid-template-columns: minmax(9rem, 16rem) 1fr; gap: 3px 14px; margin: 8px 0;
}}
dl.record dt {{ color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }}
dl.record dd {{ margin: 0; font-size: .85rem; overflow-wrap: anywhere; }}
footer {{ margin-top: 40px; color: var(--soft); font-size: .85rem; }}
@media (max-width: 640px) {{
  main {{ padding: 18px 12px 40px; }}
  .pictures {{ grid-template-columns: 1fr; }}
  .verdict dl {{ grid-template-columns: 1fr; gap: 2px; }}
  .verdict dd {{ margin-bottom: 10px; }}
  dl.record {{ grid-template-columns: 1fr; gap: 0; }}
  dl.record dd {{ margin-bottom: 6px; }}
  th, td {{ padding-right: 10px; }}
  .stack thead {{ display: none; }}
  .stack tr {{ display: block; padding: 8px 0; border-bottom: 1px solid var(--line); }}
  .stack tr:last-child {{ border-bottom: 0; }}
  .stack td, .stack td.number {{
    display: block; border: 0; padding: 1px 0; white-space: normal; overflow-wrap: anywhere;
  }}
  .stack td.number[data-head]:not([data-head=""])::before {{
    content: attr(data-head) ": "; color: var(--soft);
  }}
  .stack .bar, .stack .small .bar {{ width: 100%; max-width: 320px; }}
}}
"""
