//! The flights: rows of a CSV file as messages, in the order in which each route must keep them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use qmq_store::Message;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cli::failure::Failure;

/// One week of flights, so that the demo works from any folder.
const BUILT_IN: &[u8] = include_bytes!("../../../../examples/data/flights-2013-week.csv");

/// Fewer rows leave some part of the demo without work.
const FLIGHTS_MIN: usize = 10;

/// What to type when the data file is no good.
const NEXT: &str = "give a flights file with --data, or leave --data out for the one built in";

/// A row as it stands in the file, and as the body of a message.
#[derive(Debug, Deserialize, Serialize)]
struct Row {
    scheduled_utc: String,
    carrier: String,
    flight: u32,
    #[serde(deserialize_with = "known")]
    tailnum: Option<String>,
    origin: String,
    dest: String,
    distance_miles: u32,
    #[serde(deserialize_with = "known")]
    dep_delay_min: Option<i32>,
    #[serde(deserialize_with = "known")]
    arr_delay_min: Option<i32>,
}

/// A value, or `None` where the file says `NA` or nothing.
fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text == "NA" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e| D::Error::custom(format_args!("{text:?}: {e}")))
}

/// One flight, ready to be sent.
#[derive(Debug)]
pub(super) struct Flight {
    /// Index of its route in [`Input::routes`].
    pub(super) route: u32,
    /// Its place among the flights of its route.
    pub(super) sequence: u64,
    /// The airline: the message's tag.
    pub(super) carrier: String,
    /// Names it among the messages.
    pub(super) id: String,
    /// The row as JSON: the message's body.
    pub(super) body: Bytes,
    /// When it was to leave, in ms since 1970 UTC.
    pub(super) departure_ms: u64,
    /// How late it left, in minutes; `None`: never.
    pub(super) delay_min: Option<i32>,
}

/// One subject.
#[derive(Debug)]
pub(super) struct Route {
    /// `flight.ORIGIN.DEST`.
    pub(super) subject: String,
    /// Its flights, as indexes into [`Input::flights`], in the order of the file.
    pub(super) flights: Vec<u32>,
}

/// All flights of one file.
#[derive(Debug)]
pub(super) struct Input {
    /// In the order of the file.
    pub(super) flights: Vec<Flight>,
    /// In the order of their first flight.
    pub(super) routes: Vec<Route>,
    /// Sum of all bodies' lengths.
    pub(super) body_bytes: u64,
    ids: HashMap<String, u32>,
}

impl Input {
    /// Reads `path` (CSV, gzipped or not), or the week that is built in.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Self::parse(BUILT_IN, "the built-in flights");
        };
        let name = path.display().to_string();
        let failed = |e: std::io::Error| Failure::of(format_args!("cannot read {name}"), &e, NEXT);
        let mut raw = fs::read(path).map_err(failed)?;
        if raw.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            MultiGzDecoder::new(Cursor::new(raw))
                .read_to_end(&mut plain)
                .map_err(failed)?;
            raw = plain;
        }
        Self::parse(&raw, &name)
    }

    fn parse(csv: &[u8], name: &str) -> Result<Self, Failure> {
        let mut input = Self {
            flights: Vec::new(),
            routes: Vec::new(),
            body_bytes: 0,
            ids: HashMap::new(),
        };
        let mut known: HashMap<String, u32> = HashMap::new();
        for row in csv::Reader::from_reader(csv).into_deserialize::<Row>() {
            let row = row.map_err(|e| Failure::of(format_args!("cannot read {name}"), &e, NEXT))?;
            input.add(&row, &mut known)?;
        }
        if input.flights.len() < FLIGHTS_MIN {
            let rows = input.flights.len();
            return Err(Failure::new(
                format!("{name} has {rows} flights and the demo needs {FLIGHTS_MIN}"),
                NEXT,
            ));
        }
        Ok(input)
    }

    fn add(&mut self, row: &Row, known: &mut HashMap<String, u32>) -> Result<(), Failure> {
        let body = serde_json::to_vec(row)
            .map_err(|e| Failure::of("cannot write a flight as JSON", &e, NEXT))?;
        let departure = row.scheduled_utc.parse::<Timestamp>();
        let departure =
            departure.map_err(|e| Failure::of("cannot read scheduled_utc", &e, NEXT))?;
        let subject = format!("flight.{}.{}", row.origin, row.dest);
        let route = match known.entry(subject) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let route = u32::try_from(self.routes.len()).unwrap_or(u32::MAX);
                self.routes.push(Route {
                    subject: new.key().clone(),
                    flights: Vec::new(),
                });
                *new.insert(route)
            }
        };
        let index = u32::try_from(self.flights.len())
            .map_err(|e| Failure::of("the demo takes at most 4,294,967,295 flights", &e, NEXT))?;
        let flights = &mut self.routes[route as usize].flights;
        self.body_bytes += body.len() as u64;
        let id = format!(
            "{}{}@{}#{index}",
            row.carrier, row.flight, row.scheduled_utc
        );
        self.ids.insert(id.clone(), index);
        self.flights.push(Flight {
            route,
            sequence: flights.len() as u64,
            id,
            carrier: row.carrier.clone(),
            body: body.into(),
            departure_ms: u64::try_from(departure.as_millisecond()).unwrap_or(0),
            delay_min: row.dep_delay_min,
        });
        flights.push(index);
        Ok(())
    }

    /// The message that stands for a flight.
    pub(super) fn message(&self, flight: &Flight) -> Message {
        Message::new(
            self.routes[flight.route as usize].subject.as_str(),
            flight.body.clone(),
        )
        .tag(flight.carrier.as_str())
        .with_id(flight.id.as_str())
    }

    /// The index of the flight that an id names.
    pub(super) fn by_id(&self, id: &str) -> Option<u32> {
        self.ids.get(id).copied()
    }

    /// The index of the flight that a route's sequence stands for, or `None` beyond its last.
    pub(super) fn at(&self, route: u32, sequence: u64) -> Option<u32> {
        let flights = &self.routes.get(route as usize)?.flights;
        flights.get(usize::try_from(sequence).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_week_has_every_flight_of_it() {
        let input = Input::load(None).unwrap();
        assert_eq!(input.flights.len(), 6_760);
        assert_eq!(input.routes.len(), 188);
        for (index, flight) in input.flights.iter().enumerate() {
            assert_eq!(input.at(flight.route, flight.sequence), Some(index as u32));
        }
        let missing = input
            .flights
            .iter()
            .filter(|f| String::from_utf8_lossy(&f.body).contains("\"dep_delay_min\":null"))
            .count();
        assert_eq!(missing, 311);
    }

    #[test]
    fn a_bad_row_is_named() {
        let header = "scheduled_utc,carrier,flight,tailnum,origin,dest,distance_miles,\
                      dep_delay_min,arr_delay_min\n";
        let bad = format!("{header}2013-01-01T10:15:00Z,UA,1545,N14228,EWR,IAH,1400,2,late\n");
        let Failure::Failed { what, next } = Input::parse(bad.as_bytes(), "f.csv").unwrap_err()
        else {
            panic!("not a failure of the work");
        };
        assert!(
            what.contains("f.csv") && what.contains("line: 2") && what.contains("late"),
            "{what}"
        );
        assert!(next.contains("--data"));
    }
}
