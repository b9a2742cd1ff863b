"""Builds what Grafana imports from the data of a dashboard, with Grafana's foundation SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    gauge,
    piechart,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from mailstream.dashboards.model import Board, Kind, Panel, Query, Steps, Variable

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${DS_PROMETHEUS}")
HIDDEN_COLUMNS: Final = ("Time", "__name__", "job", "instance")

_BUILDERS: Final[dict[Kind, Callable[[], Any]]] = {
    Kind.STAT: stat.Panel,
    Kind.GAUGE: gauge.Panel,
    Kind.BARS: bargauge.Panel,
    Kind.LINES: timeseries.Panel,
    Kind.PIE: piechart.Panel,
    Kind.TABLE: table.Panel,
}


def dashboard_json(board: Board) -> str:
    """Return the file that Grafana imports."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.name)
        .description(board.description)
        .tags(list(board.tags))
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("1m")
        .time(board.since, "now")
        .with_variable(
            dashboard.DatasourceVariable("DS_PROMETHEUS").label("Data source").type("prometheus")
        )
    )
    for variable in board.variables:
        built.with_variable(_variable(variable))
    number = 0
    for row in board.rows:
        number += 1
        built.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            built.with_panel(_panel(panel).id(number))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(variable: Variable) -> Any:
    chosen = model.VariableOption(selected=True, text=variable.default, value=variable.default)
    if variable.query:
        return _query_variable(variable)
    if variable.choices:
        return (
            dashboard.CustomVariable(variable.name)
            .label(variable.label)
            .values(",".join(variable.choices))
            .current(chosen)
            .options(
                [
                    model.VariableOption(selected=one == variable.default, text=one, value=one)
                    for one in variable.choices
                ]
            )
        )
    return (
        dashboard.TextBoxVariable(variable.name)
        .label(variable.label)
        .default_value(variable.default)
        .current(chosen)
    )


def _query_variable(variable: Variable) -> Any:
    built = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(DATASOURCE)
        .query({"query": variable.query, "refId": "StandardVariableQuery"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if variable.many:
        everything = model.VariableOption(selected=True, text="All", value="$__all")
        return built.multi(True).include_all(True).all_value(".*").current(everything)
    chosen = model.VariableOption(selected=True, text=variable.default, value=variable.default)
    return built.current(chosen) if variable.default else built


def _panel(panel: Panel) -> Any:
    built = (
        _BUILDERS[panel.kind]()
        .title(panel.title)
        .description(panel.description)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel.steps, panel.base))
        .span(panel.width)
        .height(panel.height)
    )
    for number, query in enumerate(panel.queries):
        built.with_target(_target(query, panel.kind, chr(ord("A") + number)))
    if panel.lowest is not None:
        built.min(panel.lowest)
    if panel.highest is not None:
        built.max(panel.highest)
    if panel.names:
        words = {
            str(value): model.ValueMappingResult(text=text, color=colour, index=number)
            for number, (value, text, colour) in enumerate(panel.names)
        }
        built.mappings([model.ValueMap(options=words)])
    if panel.kind is Kind.LINES:
        return _lines(built, panel)
    if panel.kind is Kind.TABLE:
        return _table(built, panel)
    return _reduced(built, panel)


def _thresholds(steps: Steps, base: str) -> Any:
    found = [model.Threshold(value=None, color=base)]
    found += [model.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _target(query: Query, kind: Kind, ref_id: str) -> Any:
    built = prometheus.Dataquery().expr(query.expr).legend_format(query.name).ref_id(ref_id)
    if kind is Kind.LINES:
        return built.range().format(PromQueryFormat.TIME_SERIES)
    wanted = PromQueryFormat.TABLE if kind is Kind.TABLE else PromQueryFormat.TIME_SERIES
    return built.instant().format(wanted)


def _lines(built: Any, panel: Panel) -> Any:
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.TABLE)
    legend = legend.placement(options.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"])
    built.legend(legend.show_legend(True)).line_width(1).fill_opacity(10)
    built.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    return built


def _reduced(built: Any, panel: Panel) -> Any:
    built.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if panel.kind is Kind.BARS:
        built.orientation(options.VizOrientation.HORIZONTAL)
        built.display_mode(options.BarGaugeDisplayMode.GRADIENT)
    elif panel.kind is Kind.STAT:
        built.color_mode(
            options.BigValueColorMode.BACKGROUND
            if panel.names or panel.steps
            else options.BigValueColorMode.VALUE
        )
    return built


def _table(built: Any, panel: Panel) -> Any:
    """Give each query a column under its name, and hide what says nothing."""
    columns = {
        f"Value #{chr(ord('A') + number)}" if len(panel.queries) > 1 else "Value": query
        for number, query in enumerate(panel.queries)
    }
    if len(panel.queries) > 1:
        built.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    renamed = {column: query.name for column, query in columns.items()}
    arranged = {"excludeByName": dict.fromkeys(HIDDEN_COLUMNS, True), "renameByName": renamed}
    built.with_transformation(model.DataTransformerConfig(id_val="organize", options=arranged))
    for query in columns.values():
        if query.unit is not None:
            unit = model.DynamicConfigValue(id_val="unit", value=query.unit)
            built.override_by_name(query.name, [unit])
    return built
