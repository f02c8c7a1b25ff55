"use strict";
// Pages work without this; it only keeps them up to date and draws.
